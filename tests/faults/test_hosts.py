"""Several hosts in DATABASE_URL: one that is dead, hangs, or is not the one that is wanted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import pytest
from structlog.testing import capture_logs

from audit.errors import DatabaseUnavailable
from home.config.settings import Settings
from home.database.engine import Engine
from home.database.hosts import _fits
from tests.postgres import Server, free_port
from tests.proxy import proxied

pytestmark = pytest.mark.direct
DEAD = "127.0.0.1:1"


def place(server: Server) -> str:
    return f"127.0.0.1:{server.port}"


def several(server: Server, *places: str, query: str = "") -> str:
    return f"postgresql://postgres:postgres@{','.join(places)}/{server.database}{query}"


def engine(url: str, **settings: Any) -> Engine:
    return Engine(Settings(database_url=url, **settings))


@asynccontextmanager
async def pooled(db: Engine) -> AsyncIterator[Engine]:
    await db.start_connection_pool()
    try:
        yield db
    finally:
        await db.close_connection_pool()


async def led_to(db: Engine) -> str | None:
    connection = await db.get_new_connection()
    await connection.close()
    return connection.host


async def test_a_host_that_is_dead_is_passed_over(server: Server) -> None:
    for places in ((DEAD, place(server)), (place(server), DEAD)):
        db = engine(several(server, *places))
        assert await led_to(db) == place(server)


async def test_a_host_that_hangs_costs_a_connection_little_and_the_next_one_nothing(
    server: Server,
) -> None:
    async with proxied(server.url()) as (proxy, _):
        proxy.drop()
        db = engine(several(server, f"127.0.0.1:{proxy.port}", place(server)))
        assert await led_to(db) == place(server)
        assert proxy.accepted == 1
        assert await led_to(db) == place(server)
        assert proxy.accepted == 1


async def test_where_none_will_do_each_is_named_with_its_reason_and_no_password(
    server: Server,
) -> None:
    url = several(server, DEAD, place(server), query="?target_session_attrs=standby")
    with pytest.raises(DatabaseUnavailable) as caught:
        await led_to(engine(url.replace("postgres:postgres", "postgres:s3cret", 1)))
    assert caught.value.reason == "authentication_failed"
    with pytest.raises(DatabaseUnavailable) as caught:
        await led_to(engine(url))
    assert caught.value.reason == "wrong_server"
    assert caught.value.hint.startswith(f"{DEAD}: refused, {place(server)}: wrong_server; ")
    assert "s3cret" not in str(caught.value)


async def test_the_time_for_connecting_is_for_all_hosts_together(server: Server) -> None:
    async with proxied(server.url()) as (proxy, _):
        proxy.drop()
        url = several(server, *[f"127.0.0.1:{proxy.port}"] * 5)
        with pytest.raises(DatabaseUnavailable, match="timeout"):
            await led_to(engine(url, db_connection_timeout_ms=300))
        assert proxy.accepted <= 2


async def test_a_server_that_takes_no_changes_is_used_if_there_is_no_other(server: Server) -> None:
    change = await asyncpg.connect(server.url())
    database = f"ALTER DATABASE {server.database} SET default_transaction_read_only"
    await change.execute(f"{database} = on")
    url = several(server, place(server), DEAD)
    assert await led_to(engine(url)) == place(server)
    assert await led_to(engine(f"{url}?target_session_attrs=any")) == place(server)
    with pytest.raises(DatabaseUnavailable, match="wrong_server"):
        await led_to(engine(f"{url}?target_session_attrs=read-write"))
    await change.execute("SET transaction_read_only = off")
    await change.execute(f"{database} = off")
    await change.close()


@pytest.mark.any_version
@pytest.mark.parametrize(
    ("wanted", "primary", "told_to_be_read_only", "standby"),
    [
        ("any", True, None, None),
        ("primary", True, None, False),
        ("read-write", True, False, False),
        ("read-only", False, True, True),
        ("standby", False, False, True),
        ("prefer-standby", None, None, True),
    ],
)
def test_which_server_is_as_wanted(
    wanted: str, primary: bool | None, told_to_be_read_only: bool | None, standby: bool | None
) -> None:
    """None: if there is no better one."""
    assert _fits(wanted, False, False) is primary
    assert _fits(wanted, False, True) is told_to_be_read_only
    assert _fits(wanted, True, True) is standby


async def test_all_connections_leave_a_host_that_hangs(server: Server) -> None:
    async with proxied(server.url()) as (proxy, _):
        behind = f"127.0.0.1:{proxy.port}"
        async with pooled(engine(several(server, behind, place(server)))) as db:
            assert (await db.probe.verdict()).is_healthy
            assert db.hosts.current == behind
            single = await db.get_new_connection()
            waiting = [asyncio.create_task(db.fetch("SELECT pg_sleep(60)")) for _ in range(5)]
            while db.figures().in_use < 5:
                await asyncio.sleep(0.01)
            proxy.drop()
            with capture_logs() as logs:
                async with asyncio.timeout(20):
                    while not single.is_closed():
                        await asyncio.sleep(0.01)
            for outcome in await asyncio.gather(*waiting, return_exceptions=True):
                assert isinstance(outcome, DatabaseUnavailable)
                assert outcome.reason == "connection_lost", "not after the time-out of a statement"
            moved = {"host": place(server), "was": behind, "log_level": "warning"}
            assert {"event": "database_moved", **moved} in logs
            async with db.connection() as connection:
                assert connection.host == place(server)
            assert await db.fetchval("SELECT 1") == 1


async def test_who_moves_for_another_reason_leaves_statements_alone(server: Server) -> None:
    """Two poolers before one database, say, of which one is slow for a moment."""
    async with proxied(server.url()) as (proxy, _):
        behind = f"127.0.0.1:{proxy.port}"
        async with pooled(engine(several(server, behind, place(server)), db_pool_min=0)) as db:
            while db.jobs.statuses[0].last_success_at is None:  # which connects as well
                await asyncio.sleep(0.01)
            running = asyncio.create_task(db.fetchval("SELECT 7 FROM pg_sleep(1)"))
            while db.figures().in_use < 1:
                await asyncio.sleep(0.01)
            db.config["host"], db.config["port"] = "127.0.0.1,127.0.0.1", f"1,{server.port}"
            assert await led_to(db) == place(server)
            assert await running == 7
            assert db.figures().size == 0


async def test_a_single_host_is_searched_for_by_nobody(server: Server) -> None:
    db = engine(server.url())
    assert db.hosts.job() is None
    assert await led_to(db) is None
    several_hosts = engine(several(server, place(server), f"127.0.0.1:{free_port()}"))
    assert [status.job.name for status in several_hosts.jobs.statuses] == [
        "keep the pool warm",
        "watch the primary",
    ]
    asleep = engine(several(server, place(server), DEAD), db_pool_min=0)
    assert asleep.hosts.job() is None
