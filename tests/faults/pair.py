"""A primary and its synchronous standby, whose roles change."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import asyncpg

from tests.faults.load import Load
from tests.postgres import Server

READ_ONLY = "ALTER SYSTEM SET default_transaction_read_only = on"
WRITABLE = "ALTER SYSTEM RESET default_transaction_read_only"
RELOAD = "SELECT pg_reload_conf()"
OURS = """
    SELECT count(*) FROM pg_stat_activity
    WHERE application_name LIKE 'groundwork%' AND pid <> pg_backend_pid()
"""
SYNCHRONOUS = "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'"


async def ask(server: Server, *statements: str) -> Any:
    """The first value of the last statement."""
    connection = await asyncpg.connect(server.url())
    for sql in statements:
        found = await connection.fetchval(sql)
    await connection.close()
    return found


async def until_asked(server: Server, sql: str, wanted: object) -> None:
    async with asyncio.timeout(20):
        while await ask(server, sql) != wanted:
            await asyncio.sleep(0.02)


async def stand_by(primary: Server, port: int | None = None) -> Server:
    """A new standby, without which the primary acknowledges nothing from now on."""
    standby = await asyncio.to_thread(Server, primary.binaries, primary)
    standby.port = port or standby.port
    await asyncio.to_thread(standby.start)
    # Not earlier: the standby would have it as well, and wait for one of its own once promoted.
    await ask(primary, "ALTER SYSTEM SET synchronous_standby_names = '*'", RELOAD)
    await until_asked(primary, SYNCHRONOUS, 1)
    return standby


def several(*servers: Server) -> str:
    """The URL of all of them."""
    places = ",".join(f"127.0.0.1:{server.port}" for server in servers)
    return f"postgresql://postgres:postgres@{places}/postgres"


async def until_acknowledged(load: Load) -> float:
    """Seconds until a change that began after now is acknowledged."""
    started = time.monotonic()
    async with asyncio.timeout(20):
        while max(load.acknowledged.values()) <= started:
            await asyncio.sleep(0.002)
    return max(load.acknowledged.values()) - started


async def until_refused(load: Load) -> None:
    started = time.monotonic()
    async with asyncio.timeout(10):
        while not load.refused or load.refused[-1] <= started:
            await asyncio.sleep(0.002)
