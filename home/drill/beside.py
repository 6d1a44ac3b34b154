"""A database beside the live one: made for one drill, dropped after it, also after one that died.

Its name says what it is, and ends in the number of an advisory lock that the drill holds from
before it is made. PostgreSQL lets go of the lock when the drill's connection ends, also on kill -9:
a database of such a name whose lock nobody holds is what a dead drill left.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from shutil import disk_usage
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

import asyncpg
from pydantic import SecretStr

from audit.cli import WrongOption
from audit.errors import DatabaseUnavailable
from home.config.dsn import DsnError, from_url
from home.config.settings import Settings
from home.database.connection import ObservedConnection
from home.database.engine import Engine
from home.drill.backup import DrillFailed

NAME = "groundwork_drill_"
NUMBER = 14  # hexadecimal digits behind it
ALIVE_SECONDS = 30.0
OURS = re.compile(rf"{NAME}[0-9a-f]{{{NUMBER}}}")
DATABASES = "SELECT datname FROM pg_database WHERE pg_has_role(datdba, 'USAGE')"
IS_HELD = """
    SELECT EXISTS (
        SELECT FROM pg_locks
        WHERE locktype = 'advisory' AND objsubid = 1
          AND classid::bigint << 32 | objid::bigint = $1)
"""
# Of a server on this machine, where the role may know it; how much its log may take.
FOLDER = """
    SELECT CASE WHEN inet_server_addr() IS NOT DISTINCT FROM inet_client_addr()
                THEN current_setting('data_directory') END AS folder,
           pg_size_bytes(current_setting('max_wal_size')) AS log
"""
LIBPQ = {"sslmode": "PGSSLMODE", "sslrootcert": "PGSSLROOTCERT", "sslcert": "PGSSLCERT",
         "sslkey": "PGSSLKEY"}  # fmt: skip


@dataclass(frozen=True)
class Place:
    """A database, by its URL."""

    url: str

    @classmethod
    def live(cls, db: Engine) -> Place:
        """Return where the application's own is; of the embedded one, once it was started."""
        if db.settings.database_url is not None:
            return cls(db.settings.database_url.get_secret_value().strip())
        at = db.config
        user, password = quote(str(at["user"]), safe=""), quote(at.get("password") or "", safe="")
        who = f"{user}:{password}" if password else user
        path = quote(str(at["database"]), safe="")
        where = urlencode({"host": at["host"], "port": at["port"]})  # may be several
        return cls(f"postgresql://{who}@/{path}?{where}")

    @classmethod
    def given(cls, into: str, settings: Settings) -> Place | None:
        """Return the server that --into or DRILL_URL names.

        Raises:
            WrongOption: it cannot be used, or would show a password to all who list processes.
        """
        url = into or (settings.drill_url.get_secret_value().strip() if settings.drill_url else "")
        try:
            if into and from_url(into).args.get("password"):
                raise WrongOption("--into shows its password to all who list processes: set"
                                  " DRILL_URL in the environment instead")  # fmt: skip
            if url:
                from_url(url)
        except DsnError as error:
            raise WrongOption(f"{'--into' if into else 'DRILL_URL'}: {error}") from None
        return cls(url) if url else None

    def named(self, database: str) -> Place:
        """Return another database of the same server."""
        return Place(urlunsplit(urlsplit(self.url)._replace(path=f"/{database}")))

    def engine(self, settings: Settings) -> Engine:
        """Return an engine on it, without a pool: each statement has a connection."""
        changed = {
            "database_url": SecretStr(self.url),
            "database_replica_url": None,
            "db_pooler": "none",
            "db_slow_query_ms": 3_600_000,  # nobody waits for these
        }
        return Engine(settings.model_copy(update=changed))

    def environment(self) -> dict[str, str]:
        """Return libpq's variables, which no list of processes shows."""
        args, query = from_url(self.url).args, dict(parse_qsl(urlsplit(self.url).query))
        if "sslmode" not in query and query.get("ssl") in ("true", "1", "require"):
            query["sslmode"] = "require"
        found = {name: query[key] for key, name in LIBPQ.items() if key in query}
        for key in ("host", "port", "user", "password", "database"):
            if args.get(key):
                found[f"PG{key.upper()}"] = str(args[key])
        if wanted := args.get("target_session_attrs"):
            found["PGTARGETSESSIONATTRS"] = wanted
        return found


@dataclass(frozen=True)
class Server:
    """The server of a drill.

    Args:
        major: of its version, such as 15.
        left: how many databases of dead drills were removed.
    """

    place: Place  # of the new, empty database
    major: int
    left: int


@asynccontextmanager
async def database_beside(place: Place, settings: Settings, size: int) -> AsyncIterator[Server]:
    """Have a new database on a server for this block; before it, remove what dead drills left.

    Args:
        size: bytes that will be restored, about: a server whose disk is full ends, the live
            database with it.

    Raises:
        DrillFailed: the role may not make one, or the disk is full.
        DatabaseUnavailable: the server cannot be reached.
    """
    engine = place.engine(settings)
    connection = await engine.get_new_connection({"idle_session_timeout": "0"})
    try:
        left = await remove_left(connection)
        await _refuse_without_room(connection, size)
        name = NAME + secrets.token_hex(NUMBER // 2)
        await connection.execute("SELECT pg_advisory_lock($1)", _lock(name))
        await _create(connection, name)
        alive = asyncio.create_task(_keep_alive(connection))
        try:
            yield Server(place.named(name), connection.get_server_version().major, left)
        finally:
            alive.cancel()
            await asyncio.wait({alive})
            await _drop(engine, connection, name)
    finally:
        connection.terminate()


async def remove_left(connection: ObservedConnection) -> int:
    """Drop the databases of dead drills, and of nobody else; return how many."""
    names = [row["datname"] for row in await connection.fetch(DATABASES)]
    removed = 0
    for name in filter(OURS.fullmatch, names):
        if await connection.fetchval(IS_HELD, _lock(name)):
            continue  # it goes on, since its lock was there before its database
        with contextlib.suppress(asyncpg.ObjectInUseError):  # another drill drops it
            await connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
            removed += 1
    return removed


async def _refuse_without_room(connection: ObservedConnection, size: int) -> None:
    with contextlib.suppress(asyncpg.InsufficientPrivilegeError, PermissionError):
        row = await connection.fetchrow(FOLDER)
        if row["folder"] is None or not Path(row["folder"]).is_dir():
            return  # of another machine, or a container
        free, needed = disk_usage(row["folder"]).free, size + min(2 * size, row["log"])
        if free < needed:
            raise DrillFailed(
                f"the server's disk has {free // 10**6} MB left, and a copy may take"
                f" {needed // 10**6}: make room, or name another server with --into"
            )


def _lock(name: str) -> int:
    return int(name[-NUMBER:], 16)


async def _create(connection: ObservedConnection, name: str) -> None:
    try:
        await connection.execute(f"CREATE DATABASE \"{name}\" TEMPLATE template0 ENCODING 'UTF8'")
    except asyncpg.InsufficientPrivilegeError:
        role = await connection.fetchval("SELECT quote_ident(current_user)")
        raise DrillFailed(
            f"the role {role} may not make a database: ALTER ROLE {role} CREATEDB, or name another"
            " server with --into"
        ) from None
    except asyncpg.DiskFullError:
        raise DrillFailed("the server's disk is full: make room, or name another server with"
                          " --into") from None  # fmt: skip


async def _keep_alive(connection: ObservedConnection) -> None:
    """Say something now and then: who is silent for an hour is forgotten on the way."""
    with contextlib.suppress(DatabaseUnavailable):
        while True:
            await asyncio.sleep(ALIVE_SECONDS)
            await connection.execute("SELECT 1")


async def _drop(engine: Engine, connection: ObservedConnection, name: str) -> None:
    """Drop it, on another connection where this one is lost."""
    if connection.is_closed():
        connection = await engine.get_new_connection()
    await connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
    await connection.close()
