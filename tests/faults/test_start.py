"""R1: the application starts while its database is not right yet, says why, and finds it later."""

from __future__ import annotations

import asyncio
import os
import shutil
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import asyncpg
import httpx
import pytest

from tests.conftest import missing
from tests.faults.conftest import TEMPLATE, in_maintenance
from tests.faults.load import SLACK
from tests.home.config.test_tls import Authority
from tests.live import Live
from tests.postgres import Server
from tests.proxy import proxied

pytestmark = pytest.mark.direct
CANARY = "canary-st4rt"


class Trouble(NamedTuple):
    """A URL that does not work yet, why health says so, and what mends it."""

    url: str
    reason: str
    mend: Callable[[], Awaitable[None]]
    prefix: tuple[str, ...] = ()


def as_someone(server: Server, host: str = "127.0.0.1", database: str = "") -> str:
    return f"postgresql://someone:{CANARY}@{host}:{server.port}/{database or server.database}"


@pytest.fixture
async def someone(server: Server) -> AsyncIterator[asyncpg.Connection]:
    """A superuser's connection, on a server where someone may sign in."""
    connection = await asyncpg.connect(server.url())
    await connection.execute(f"CREATE ROLE someone LOGIN PASSWORD '{CANARY}'")
    await connection.execute("GRANT pg_read_all_data, pg_write_all_data TO someone")
    yield connection
    if connection.is_closed():
        connection = await asyncpg.connect(server.url())
    await connection.execute("DROP DATABASE IF EXISTS later")
    await connection.execute("DROP OWNED BY someone")
    await connection.execute("DROP ROLE someone")
    await connection.close()


@asynccontextmanager
async def refused(server: Server, admin: asyncpg.Connection, tmp_path: Path) -> Any:
    await admin.close()
    server.stop()
    yield Trouble(as_someone(server), "refused", lambda: asyncio.to_thread(server.start))


@asynccontextmanager
async def dropped(server: Server, admin: asyncpg.Connection, tmp_path: Path) -> Any:
    async with proxied(as_someone(server)) as (proxy, through):
        proxy.drop()

        async def heal() -> None:
            proxy.heal()

        yield Trouble(through, "timeout", heal)


@asynccontextmanager
async def unknown_host(server: Server, admin: asyncpg.Connection, tmp_path: Path) -> Any:
    hosts = tmp_path / "hosts"
    shutil.copy("/etc/hosts", hosts)
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        missing("the right to mount a file over /etc/hosts", "run it as root")
    script = f'mount --bind \'{hosts}\' /etc/hosts; exec "$0" "$@"'

    async def name_it() -> None:
        with hosts.open("a") as file:
            file.write("\n127.0.0.1 db.example.test\n")

    url = as_someone(server, host="db.example.test")
    yield Trouble(url, "unknown_host", name_it, ("unshare", "-m", "sh", "-c", script))


@asynccontextmanager
async def wrong_password(server: Server, admin: asyncpg.Connection, tmp_path: Path) -> Any:
    await admin.execute("ALTER ROLE someone PASSWORD 'another'")

    async def mend() -> None:
        await admin.execute(f"ALTER ROLE someone PASSWORD '{CANARY}'")

    yield Trouble(as_someone(server), "authentication_failed", mend)


@asynccontextmanager
async def unknown_database(server: Server, admin: asyncpg.Connection, tmp_path: Path) -> Any:
    async def mend() -> None:
        await in_maintenance(server, f"CREATE DATABASE later TEMPLATE {TEMPLATE}")

    yield Trouble(as_someone(server, database="later"), "unknown_database", mend)


@asynccontextmanager
async def no_tls(server: Server, admin: asyncpg.Connection, tmp_path: Path) -> Any:
    authority = Authority(tmp_path / "ours")
    certificate, key = authority.issue("localhost")
    for file, name in ((certificate, "server.crt"), (key, "server.key")):
        copy = Path(shutil.copy(file, server.data / name))
        copy.chmod(0o600)
        if server.user:
            shutil.chown(copy, server.user)

    async def mend() -> None:
        await admin.execute("ALTER SYSTEM SET ssl = on")
        await admin.execute("SELECT pg_reload_conf()")

    query = f"?sslmode=verify-full&sslrootcert={authority.root}"
    yield Trouble(as_someone(server, host="localhost") + query, "tls_failed", mend)
    await admin.execute("ALTER SYSTEM RESET ssl")
    await admin.execute("SELECT pg_reload_conf()")


@asynccontextmanager
async def too_many(server: Server, admin: asyncpg.Connection, tmp_path: Path) -> Any:
    await admin.execute("ALTER ROLE someone CONNECTION LIMIT 0")

    async def mend() -> None:
        await admin.execute("ALTER ROLE someone CONNECTION LIMIT -1")

    yield Trouble(as_someone(server), "too_many_connections", mend)


@pytest.mark.parametrize(
    "trouble",
    [refused, dropped, unknown_host, wrong_password, unknown_database, no_tls, too_many],
)
async def test_it_starts_says_why_and_works_once_it_is_right(
    server: Server, someone: asyncpg.Connection, tmp_path: Path, trouble: Any
) -> None:
    async with trouble(server, someone, tmp_path) as (url, reason, mend, prefix):
        started = time.monotonic()
        live = Live(url, prefix)
        try:
            await asyncio.to_thread(live.wait_until_it_serves)
            async with httpx.AsyncClient(base_url=live.address, timeout=9) as client:
                report = (await client.get("/api/health")).json()
                said = time.monotonic() - started
                assert report["database"] == {"connected": False, "error": reason}
                await mend()
                mended = time.monotonic()
                async with asyncio.timeout(6 * SLACK):
                    body = {"email": "nobody@example.com", "password": "wrong"}
                    while (await client.get("/health")).status_code != 200:
                        await asyncio.sleep(0.05)
                    while (await client.post("/api/sign-in", json=body)).status_code == 503:
                        await asyncio.sleep(0.05)
                works = time.monotonic() - mended
        finally:
            output = await asyncio.to_thread(live.end)
    print(f"R1 {reason}: health after {said:.2f} s, works {works:.2f} s after it was right")
    assert said < 2 * SLACK
    assert CANARY not in output + str(report)
