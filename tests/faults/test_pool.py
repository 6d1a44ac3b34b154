"""R2, R4, R6, R10: the pool is full, loses its connections, and its users go away."""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest
from starlette.applications import Starlette
from structlog.testing import capture_logs

import piccolo_conf
from audit.errors import DatabaseUnavailable
from home.config.settings import Settings
from home.database.engine import Engine
from home.tables import User
from tests.conftest import all_given_back, browser, create_app, enter
from tests.faults.load import SLACK
from tests.proxy import proxied

pytestmark = [pytest.mark.direct, pytest.mark.any_version]
BACKENDS = """
    SELECT count(*) FILTER (WHERE state = 'idle in transaction') AS idle_in_transaction,
           count(*) FILTER (WHERE application_name = 'groundwork') AS pooled
    FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()
"""


@pytest.fixture
async def watcher(url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(url)
    yield connection
    await connection.close()


async def backends(watcher: asyncpg.Connection) -> dict[str, int]:
    [row] = await watcher.fetch(BACKENDS)
    return dict(row)


async def member_client(app: Starlette, member: User) -> httpx.AsyncClient:
    client = browser(app)
    await enter(client, member.email)
    return client


async def test_two_hundred_more_than_a_full_pool_serves(
    app: Starlette, member: User, watcher: asyncpg.Connection
) -> None:
    db, client = piccolo_conf.DB, await member_client(app, member)
    held = [await db.acquire() for _ in range(20)]
    started = time.monotonic()

    async def ask() -> tuple[int, float]:
        answer = await client.get("/api/me")
        assert answer.headers["retry-after"] == "2"
        return answer.status_code, time.monotonic() - started

    async with asyncio.timeout(2.3 * SLACK):
        answers = await asyncio.gather(*[ask() for _ in range(200)])
    took = [seconds for _, seconds in answers]
    assert {status for status, _ in answers} == {503}
    assert min(took) >= 1.7
    assert (await backends(watcher))["pooled"] == 20
    await db.release(held.pop())
    released = time.monotonic()
    assert (await client.get("/api/me")).status_code == 200
    back = time.monotonic() - released
    for connection in held:
        await db.release(connection)
    print(f"R2: 200 answers 503 after {min(took):.2f} to {max(took):.2f} s, serves in {back:.3f} s")


async def test_twenty_connections_lost_in_transactions(
    db: Engine, watcher: asyncpg.Connection
) -> None:
    """Half of them while a statement runs, half of them in between."""
    ready, terminated = asyncio.Barrier(21), asyncio.Event()

    async def work(sql: str) -> None:
        with pytest.raises(DatabaseUnavailable):
            async with db.transaction():
                await db.run_ddl("SELECT 1")
                await ready.wait()
                await db.run_ddl(sql) if "sleep" in sql else await terminated.wait()
                await db.run_ddl("SELECT 1")
        assert await db.run_ddl("SELECT 1")  # the same task goes on

    with capture_logs() as logs:
        assert await all_given_back(db)
        tasks = [asyncio.create_task(work(sql)) for sql in ("SELECT pg_sleep(4)", "") * 10]
        await ready.wait()
        await asyncio.sleep(0.1)
        await watcher.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE application_name = 'groundwork' AND datname = current_database()"
        )
        await asyncio.sleep(0.1)
        terminated.set()
        await asyncio.gather(*tasks)
    causes = [
        entry["error"]
        for entry in logs
        if entry["event"] == "connection_failed" and entry["log_level"] == "warning"
    ]
    assert len(causes) == 20
    held = [await db.acquire() for _ in range(20)]
    for connection in held:
        await db.release(connection)
    assert await all_given_back(db)


@pytest.mark.parametrize("number", [500, pytest.param(10_000, marks=pytest.mark.long)])
async def test_requests_that_are_cancelled_leave_nothing_behind(
    app: Starlette, member: User, watcher: asyncpg.Connection, number: int
) -> None:
    db, client = piccolo_conf.DB, await member_client(app, member)
    files = Path(f"/proc/{os.getpid()}/fd")

    async def visit(count: int) -> None:
        for start in range(0, count, 50):
            tasks = [
                asyncio.create_task(
                    client.put("/api/me/preferences", json={"n": n})
                    if n % 2
                    else client.get("/api/me")
                )
                for n in range(start, start + 50)
            ]
            for task in tasks:
                if random.random() < 0.5:
                    await asyncio.sleep(random.uniform(0, 0.002))
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    await asyncio.gather(*[client.get("/api/me") for _ in range(40)])  # the pool is full
    before = len(list(files.iterdir()))
    await visit(number)
    assert await all_given_back(db)
    held = [await db.acquire() for _ in range(20)]
    for connection in held:
        await db.release(connection)
    found = await backends(watcher)
    assert found["idle_in_transaction"] == 0
    assert found["pooled"] <= 20
    after = len(list(files.iterdir()))
    print(f"R6: {number} cancelled, file descriptors {before} -> {after}")
    assert after <= before


@pytest.mark.long
async def test_a_thousand_health_checks_a_second_while_packets_are_dropped(url: str) -> None:
    async with proxied(url) as (proxy, through):
        db = Engine(Settings(database_url=through))
        app = create_app(piccolo_conf.SETTINGS, db)
        scope = {"type": "http", "path": "/api/health", "method": "GET", "headers": [],
                 "query_string": b"", "root_path": ""}  # fmt: skip
        took: list[float] = []

        async def ask() -> None:
            started = time.monotonic()

            async def send(message: Any) -> None: ...

            async def receive() -> Any: ...

            await app(dict(scope), receive, send)
            took.append(time.monotonic() - started)

        async with app.router.lifespan_context(app):
            await ask()
            accepted = proxy.accepted
            proxy.drop()
            asked = []
            for _ in range(200):  # for two seconds, ten each hundredth
                asked += [asyncio.create_task(ask()) for _ in range(10)]
                await asyncio.sleep(0.01)
            in_use = db.figures().in_use
            await asyncio.gather(*asked)
            proxy.heal()
        took.sort()
        p99 = took[int(len(took) * 0.99)]
        probes = proxy.accepted - accepted
        print(f"R10: {len(took)} answers, p99 {p99:.3f} s, {probes} new connections")
        assert p99 < 0.5 * SLACK
        assert in_use <= db.settings.db_pool_min + 1  # by the jobs that fill it and compare clocks
        assert probes <= 10, "one at a time, and not one for each question"
