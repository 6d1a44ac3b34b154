"""The arithmetic of connections at the start of several workers."""

from __future__ import annotations

import asyncpg
import pytest
from structlog.testing import capture_logs

from home.config.settings import Settings
from home.database import capacity
from home.database.capacity import TooManyConnections, check_capacity, connections_of
from home.database.engine import Engine

pytestmark = [pytest.mark.direct, pytest.mark.any_version]
NOWHERE = "postgresql://someone@127.0.0.1:1/db"


def engine(url: str, **settings: object) -> Engine:
    return Engine(Settings(database_url=url, **settings))  # type: ignore[arg-type]


def test_pool_health_and_replica_are_counted() -> None:
    alone = Settings(database_url=NOWHERE, db_pool_max=10)
    assert connections_of(alone, to_replica=False) == 11
    both = Settings(database_url=NOWHERE, database_replica_url=NOWHERE, db_pool_max=10)
    assert connections_of(both, to_replica=False) == 12
    assert connections_of(both, to_replica=True) == 11


async def test_what_the_server_has_is_enough(url: str) -> None:
    assert await check_capacity(engine(url, workers=2)) == 42


async def test_limits_of_database_and_role_count(url: str) -> None:
    connection = await asyncpg.connect(url)
    name = await connection.fetchval("SELECT quote_ident(current_database())")
    await connection.execute(f"ALTER DATABASE {name} CONNECTION LIMIT 30")
    await connection.close()
    with pytest.raises(TooManyConnections) as refused:
        await check_capacity(engine(url, workers=2))
    assert str(refused.value) == (
        "WORKERS: 2 workers with up to 21 connections each make 42, and DATABASE_URL leads to a"
        " server that has 30 (CONNECTION LIMIT of the database): set WORKERS to at most 1,"
        " DB_POOL_MAX to at most 14, let the server have more, or put PgBouncer in between and set"
        " DB_POOLER=transaction."
    )
    assert await check_capacity(engine(url, workers=2, db_pool_max=14)) == 30


async def test_what_a_restart_may_need_is_a_warning(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def limits(connection: object) -> capacity.Server:
        return capacity.Server(50, 3, in_use=10, of_role=None, of_database=None)

    monkeypatch.setattr(capacity, "_limits", limits)
    with capture_logs() as logs:
        assert await check_capacity(engine(url, workers=2)) == 42
    [scarce] = [entry for entry in logs if entry["event"] == "connections_scarce"]
    assert (scarce["needed"], scarce["while_restarting"], scarce["there"]) == (42, 63, 47)


@pytest.mark.parametrize("pooler", ["none", "transaction"])
async def test_where_nothing_can_be_asked_nothing_is_compared(pooler: str) -> None:
    with capture_logs() as logs:
        assert await check_capacity(engine(NOWHERE, workers=99, db_pooler=pooler)) == 99 * 21
    [told] = [entry for entry in logs if entry["event"] == "connections_not_compared"]
    assert told["reason"] == ("refused" if pooler == "none" else "behind_a_pooler")
