"""A PostgreSQL server of one's own: started, killed, paused and stopped by tests."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from home.drill.beside import Place
from home.drill.restoring import VERSION, paths

INSTALL = "apt-get install postgresql-15"
INSTALL_FAKETIME = "apt-get install libfaketime"
MEMORY = Path("/dev/shm")
ENOUGH = 4 * 2**30  # bytes


def data_folder() -> Path:
    """A new folder for a server's data, in memory where there is room: each test copies a database,
    which takes twenty times as long on a disk."""
    has_room = MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > ENOUGH
    place = str(MEMORY) if has_room else "/tmp"
    return Path(tempfile.mkdtemp(prefix="groundwork-test-", dir=place))


def find_binaries() -> Path | None:
    """The folder of initdb and postgres, version 15 first."""
    for folder in sorted(
        Path("/usr/lib/postgresql").glob("*/bin"), key=lambda p: "15" not in str(p)
    ):
        if (folder / "initdb").exists():
            return folder
    found = shutil.which("initdb")
    return Path(found).resolve().parent if found else None


def with_clock(shift: str) -> dict[str, str] | None:
    """The environment of a process whose clock is wrong, such as "+10y"; None without libfaketime.

    How long something takes is right there all the same.
    """
    found = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), None)
    if found is None:
        return None
    return {"LD_PRELOAD": str(found), "FAKETIME": shift, "FAKETIME_DONT_FAKE_MONOTONIC": "1"}


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def dump(url: str, file: Path, *options: str) -> Path:
    """Have the newest pg_dump of this machine write a file."""
    found = list[tuple[int, Path]]()
    for path in paths("pg_dump"):
        said = subprocess.check_output([path, "--version"], text=True)
        found += [(int(version[1]), path) for version in VERSION.finditer(said)]
    command = [str(max(found)[1]), *options, f"--file={file}"]
    subprocess.run(command, env=Place(url).environment(), check=True)
    return file


class Server:
    """A cluster in a temporary folder, on a loopback port; the superuser is postgres/postgres.

    Args:
        primary: a running server, to be a streaming replica of.
    """

    database = "postgres"  # of `url`

    def __init__(self, binaries: Path, primary: Server | None = None) -> None:
        self.binaries = binaries
        self.folder = data_folder()
        self.port = free_port()
        self.env: dict[str, str] = {}  # more variables, of what is started next
        self.data = self.folder / "data"
        # PostgreSQL refuses to run as root.
        self.user = "postgres" if os.geteuid() == 0 else None
        if self.user:
            shutil.chown(self.folder, self.user)
        if primary is not None:
            self._run("pg_basebackup", "-D", self.data, "-R", "-c", "fast", "-d", primary.url())
            return
        password = self.folder / "password"
        password.write_text("postgres")
        password.chmod(0o644)
        self._run(
            "initdb", "-D", self.data, "-U", "postgres", "--auth=scram-sha-256",
            f"--pwfile={password}", "--encoding=UTF8", "--locale=C", "--no-sync",
        )  # fmt: skip

    def _run(self, program: str, *arguments: object) -> None:
        command = [str(self.binaries / program), *map(str, arguments)]
        env = {**os.environ, **self.env}
        subprocess.run(command, user=self.user, check=True, stdout=subprocess.DEVNULL, env=env)

    def start(self, **settings: object) -> None:
        """Start it, and wait until it accepts connections."""
        log = self.folder / "log"
        settings = {"port": self.port, "listen_addresses": "127.0.0.1", "fsync": "off"} | settings
        settings["unix_socket_directories"] = self.folder
        options = " ".join(f"-c {name}={value}" for name, value in settings.items())
        self._run("pg_ctl", "-D", self.data, "-l", log, "-w", "-o", options, "start")

    def stop(self, mode: str = "fast") -> None:
        self._run("pg_ctl", "-D", self.data, "-m", mode, "-w", "stop")

    @property
    def pid(self) -> int:
        return int((self.data / "postmaster.pid").read_text().splitlines()[0])

    def promote(self) -> None:
        """Make a replica a server of its own."""
        self._run("pg_ctl", "-D", self.data, "-w", "promote")

    def signal(self, number: int) -> None:
        """Send a signal to the postmaster and to all its children, as SIGSTOP."""
        postmaster = self.pid
        os.kill(postmaster, number)  # which starts none any more, if it is stopped
        children = Path(f"/proc/{postmaster}/task/{postmaster}/children").read_text().split()
        for child in map(int, children):
            with suppress(ProcessLookupError):  # it has ended meanwhile
                os.kill(child, number)

    def kill(self) -> None:
        """kill -9 of the postmaster; its children follow."""
        pid = self.pid
        os.kill(pid, signal.SIGKILL)
        while Path(f"/proc/{pid}").exists():
            time.sleep(0.01)
        (self.data / "postmaster.pid").unlink(missing_ok=True)

    def remove(self) -> None:
        if (self.data / "postmaster.pid").exists():
            self.signal(signal.SIGCONT)  # in case a test left it stopped
            self.stop("immediate")
        shutil.rmtree(self.folder, ignore_errors=True)

    def url(self, database: str = "") -> str:
        where = f"127.0.0.1:{self.port}/{database or self.database}"
        return f"postgresql://postgres:postgres@{where}"
