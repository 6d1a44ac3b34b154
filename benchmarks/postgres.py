"""A PostgreSQL 15 of our own, on a loopback port, with its defaults (fsync among them)."""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.process import failure, free_port, running
from benchmarks.tools import BenchmarkError, missing

START_SECONDS = 30.0


@dataclass(frozen=True)
class Server:
    """A running server; its only user may do everything."""

    binaries: Path
    port: int
    password: str

    def url(self, database: str) -> str:
        return f"postgresql://bench:{self.password}@127.0.0.1:{self.port}/{database}"

    def query(self, sql: str, database: str = "postgres") -> list[list[str]]:
        """Run one statement; returns rows of text."""
        command = [self.binaries / "psql", "-XAtq", "-v", "ON_ERROR_STOP=1", "-c", sql]
        arguments = [*command, self.url(database)]
        done = subprocess.run(arguments, capture_output=True, text=True, check=False)
        if done.returncode:
            raise BenchmarkError(f"PostgreSQL refused: {done.stderr.strip()}")
        return [line.split("|") for line in done.stdout.splitlines()]

    @contextmanager
    def empty_database(self, name: str) -> Iterator[str]:
        """The URL of a new database, which is dropped afterwards."""
        self.query(f"CREATE DATABASE {name}")
        try:
            yield self.url(name)
        finally:
            self.query(f"DROP DATABASE {name} WITH (FORCE)")

    def is_ready(self) -> bool:
        command = [self.binaries / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        return subprocess.run(command, check=False).returncode == 0


@contextmanager
def postgres() -> Iterator[Server]:
    """Make a cluster in a temporary folder and serve it; both are gone afterwards."""
    binaries = find_binaries()
    server = Server(binaries, free_port(), secrets.token_hex(16))
    other_user = _other_user()
    folder = Path(tempfile.mkdtemp(prefix="groundwork-bench-"))
    try:
        if other_user:
            shutil.chown(folder, other_user["user"], other_user["group"])
        data = _make_cluster(server, folder, other_user)
        settings = [f"port={server.port}", "listen_addresses=127.0.0.1", "max_connections=200",
                    f"unix_socket_directories={folder}"]  # fmt: skip
        options = [part for setting in settings for part in ("-c", setting)]
        command = [str(binaries / "postgres"), "-D", str(data), *options]
        log = folder / "log"
        with running(command, log, signal.SIGINT, cwd=folder, **other_user) as process:
            deadline = time.monotonic() + START_SECONDS
            while not server.is_ready():
                if process.poll() is not None or time.monotonic() > deadline:
                    raise failure("PostgreSQL did not start", log)
                time.sleep(0.05)
            yield server
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def find_binaries() -> Path:
    """The folder of PostgreSQL 15's programs."""
    debian = Path("/usr/lib/postgresql/15/bin")
    on_path = shutil.which("postgres")
    for folder in filter(None, (debian, on_path and Path(on_path).resolve().parent)):
        if (folder / "postgres").exists():
            version = subprocess.run([folder / "postgres", "--version"], capture_output=True)
            if b" 15." in version.stdout:
                return folder
    raise missing("postgres")


def _make_cluster(server: Server, folder: Path, other_user: dict[str, Any]) -> Path:
    password = folder / "password"
    password.write_text(server.password)
    if other_user:
        shutil.chown(password, other_user["user"])
    initdb = [
        server.binaries / "initdb", "-D", folder / "data", "-U", "bench", f"--pwfile={password}",
        "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C",
    ]  # fmt: skip
    done = subprocess.run(
        initdb, cwd=folder, capture_output=True, text=True, check=False, **other_user
    )
    if done.returncode:
        raise BenchmarkError(f"initdb failed: {done.stderr.strip()}")
    return folder / "data"


def _other_user() -> dict[str, Any]:
    """PostgreSQL refuses to run as root: arguments that make a process another user's."""
    if os.geteuid() != 0:
        return {}
    try:
        entry = pwd.getpwnam("postgres")
    except KeyError:
        raise missing("postgres") from None
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
