"""The file of a backup: what it is, and its bytes, read once and counted into its digest."""

from __future__ import annotations

import gzip
import hashlib
import io
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

from audit.errors import GroundworkError

CHUNK = 2**20  # bytes
HEAD = 16_384  # bytes in which everything stands that says what a dump is
TAIL = 4_096
CUSTOM = b"PGDMP"
PLAIN = b"-- PostgreSQL database dump\n"
END_OF_PLAIN = b"-- PostgreSQL database dump complete"
PROGRAM = re.compile(rb"^-- Dumped by pg_dump version (\d+)", re.MULTILINE)
SERVER = re.compile(rb"^-- Dumped from database version (\d+)", re.MULTILINE)
# The key with which a dump locks psql, and opens it again at the end: ours takes its place.
RESTRICT = re.compile(rb"^\\restrict (\w+)\r?\n", re.MULTILINE)
NOT_A_DUMP = "is not a dump: give a file that pg_dump wrote, with --format=custom or as plain SQL"

Kind = Literal["custom", "plain"]


class DrillFailed(GroundworkError):
    """The drill failed; the message says what happened and what to do."""


@dataclass
class Backup:
    """A file that pg_dump wrote.

    Args:
        program: the major version of the pg_dump that wrote it.
        server: the major version of the server that it was made of.
        size: in bytes, of which `read` were read until now.
    """

    path: Path
    kind: Kind
    program: int
    server: int
    is_gzip: bool
    size: int
    read: int = 0
    sha256: str = ""  # once all of it was read

    @classmethod
    def look_at(cls, path: Path) -> Backup:
        """Say what a file is.

        Raises:
            DrillFailed: it cannot be read, or is no dump that can be restored here.
        """
        try:
            if path.exists() and not path.is_file():
                raise DrillFailed(f"{path.name} is not a file")
            with path.open("rb") as file:
                size = path.stat().st_size
                is_gzip = file.read(2) == b"\x1f\x8b"
                file.seek(0)
                head = (gzip.GzipFile(fileobj=file) if is_gzip else file).read(HEAD)
        except (OSError, EOFError, zlib.error) as error:
            raise DrillFailed(f"{path.name} {_broken(error)}") from None
        if head.startswith(CUSTOM):
            return cls(path, "custom", *_versions(head), is_gzip, size)
        if PLAIN in head[:200].replace(b"\r", b""):
            return cls(path, "plain", _major(PROGRAM, head), _major(SERVER, head), is_gzip, size)
        if b"PostgreSQL database cluster dump" in head:
            raise DrillFailed(
                f"{path.name} is of a whole server, by pg_dumpall, and would change its roles:"
                " give a file of pg_dump"
            )
        raise DrillFailed(f"{path.name} {NOT_A_DUMP}")

    def chunks(self) -> Iterator[bytes]:
        """Yield what is in it, unpacked; its SHA-256 is known once all of it was taken.

        Raises:
            DrillFailed: it is cut off, or cannot be read.
        """
        try:
            with self.path.open("rb") as file:
                counted = _Counted(file)
                source = gzip.GzipFile(fileobj=counted) if self.is_gzip else counted
                while chunk := source.read(CHUNK):
                    self.read = counted.count
                    yield chunk
                self.read, self.sha256 = counted.count, counted.digest.hexdigest()
        except (OSError, EOFError, zlib.error) as error:
            raise DrillFailed(f"{self.path.name} {_broken(error)}") from None

    def sql(self, lock: bytes, without: bytes = b"") -> Iterator[bytes]:
        """Yield plain SQL for psql, in which psql obeys no backslash command.

        Args:
            lock: a word that nobody else knows: what psql is locked with.
            without: a line of the head to leave out.

        Raises:
            DrillFailed: it is cut off.
        """
        chunks = self.chunks()
        held = next(chunks, b"")
        key = found[1] if (found := RESTRICT.search(held[:HEAD])) else b""
        if found:
            held = held[: found.start()] + held[found.end() :]
        held = held[:HEAD].replace(without, b"", 1) + held[HEAD:]
        yield b"\\restrict " + lock + b"\n"
        for chunk in chunks:
            yield held[:-TAIL]
            held = held[-TAIL:] + chunk
        if END_OF_PLAIN not in held[-TAIL:]:
            raise DrillFailed(f"{self.path.name} is cut off: its last line is missing")
        yield held.replace(b"\n\\unrestrict " + key, b"") if key else held


class _Counted(io.RawIOBase):
    """A file whose bytes are counted and digested while they are read."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.count = 0
        self.digest = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        found = self._file.read(size)
        self.count += len(found)
        self.digest.update(found)
        return found


def _broken(error: Exception) -> str:
    if isinstance(error, gzip.BadGzipFile | EOFError | zlib.error):
        return "is broken or cut off: it cannot be unpacked"
    return f"cannot be read: {getattr(error, 'strerror', None) or type(error).__name__}"


def _major(pattern: re.Pattern[bytes], head: bytes) -> int:
    return int(found[1]) if (found := pattern.search(head)) else 0


def _versions(head: bytes) -> tuple[int, int]:
    """Return the major versions of pg_dump and of the server from the head of an archive.

    As PostgreSQL's pg_backup_archiver.c writes it: three bytes of version, the sizes of a number
    and of an offset, the format, the compression, seven numbers of the time, and three texts.

    Raises:
        DrillFailed: that is not what stands there.
    """
    at, size = 11, head[8] if len(head) > 8 else 0

    def number() -> int:
        nonlocal at
        at += 1 + size
        return int.from_bytes(head[at - size : at], "little")

    def text() -> bytes:
        nonlocal at
        length = number()
        at += length
        return head[at - length : at]

    if head[5:7] >= b"\x01\x0f":  # 1.15: a byte that names the algorithm
        at += 1
    else:
        number()
    for _ in range(7):
        number()
    _database, server, program = text(), text(), text()
    try:
        return int(re.split(rb"\D", program)[0]), int(re.split(rb"\D", server)[0])
    except ValueError:
        raise DrillFailed(f"the file {NOT_A_DUMP}") from None
