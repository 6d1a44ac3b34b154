"""A table changes while it is used: statements that were prepared before are prepared anew."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest
from pydantic import SecretStr

from audit.context import Actor, acting_as
from audit.errors import DatabaseUnavailable
from home.config.settings import Settings
from home.database.connection import ObservedConnection, Transaction
from home.database.engine import Engine
from tests.conftest import all_given_back

pytestmark = [pytest.mark.direct, pytest.mark.any_version]
MEL = Actor("mel@example.com")
SELECT = "SELECT * FROM things"
INSERT = "INSERT INTO things (name) VALUES ($1) RETURNING *"
CHANGES = ["ALTER TABLE things ADD more text", "ALTER TABLE things ALTER n TYPE bigint"]


@pytest.fixture
async def other(db: Engine, url: str) -> AsyncIterator[asyncpg.Connection]:
    """Somebody else, who changes a table; the pool has one connection, which knows it as it was."""
    connection = await asyncpg.connect(url)
    await connection.execute("CREATE TABLE things (n serial PRIMARY KEY, name text)")
    yield connection
    await connection.close()


@pytest.fixture
async def known(other: asyncpg.Connection, url: str) -> AsyncIterator[Engine]:
    """An engine of one connection that has prepared the statements."""
    engine = Engine(Settings(database_url=SecretStr(url), db_pool_max=1, db_pool_min=1))
    await engine.start_connection_pool()
    await engine.fetch(SELECT)
    with acting_as(MEL):
        await engine.fetch(INSERT, "first")
    yield engine
    await engine.close_connection_pool()


@pytest.mark.parametrize("change", CHANGES)
async def test_a_statement_by_itself_is_retried(
    known: Engine, other: asyncpg.Connection, change: str
) -> None:
    await other.execute(change)
    assert len(await known.fetch(SELECT)) == 1


@pytest.mark.parametrize("change", CHANGES)
async def test_a_change_by_somebody_is_retried_and_made_once(
    known: Engine, other: asyncpg.Connection, change: str
) -> None:
    await other.execute(change)
    with acting_as(MEL):
        [row] = await known.fetch(INSERT, "second")
    assert row["name"] == "second"
    assert await other.fetchval("SELECT array_agg(name ORDER BY n) FROM things") == [
        "first",
        "second",
    ]


def snapshot_of(connection: ObservedConnection) -> Transaction:
    return connection.transaction(isolation="repeatable_read", readonly=True)


async def test_a_transaction_that_did_nothing_yet_begins_again_as_it_was(
    known: Engine, other: asyncpg.Connection
) -> None:
    await other.execute(CHANGES[0])
    with acting_as(MEL):
        async with known.connection() as connection, snapshot_of(connection):
            assert len(await connection.fetch(SELECT)) == 1
            setting = "SELECT current_setting($1)"
            assert await connection.fetchval(setting, "transaction_isolation") == "repeatable read"
            assert await connection.fetchval(setting, "transaction_read_only") == "on"
            assert "mel@example.com" in await connection.fetchval(setting, "groundwork.actor")


async def test_a_transaction_that_did_something_is_undone_and_says_to_try_again(
    known: Engine, other: asyncpg.Connection
) -> None:
    await other.execute("CREATE TABLE places (n integer)")
    await known.fetch("SELECT * FROM places")
    with pytest.raises(DatabaseUnavailable) as caught, acting_as(MEL):
        async with known.transaction():
            await known.execute("INSERT INTO things (name) VALUES ('half')")
            await other.execute("ALTER TABLE places ADD name text")
            await known.fetch("SELECT * FROM places")
    assert (caught.value.reason, caught.value.status) == ("schema_changed", 503)
    assert await other.fetchval("SELECT count(*) FROM things WHERE name = 'half'") == 0
    assert await known.fetch("SELECT * FROM places") == []
    assert await all_given_back(known)


async def test_in_the_thick_of_changes_no_request_fails(
    known: Engine, other: asyncpg.Connection
) -> None:
    async def change() -> None:
        for number in range(20):
            await asyncio.sleep(0.02)  # else each try meets the next change
            await other.execute(f"ALTER TABLE things ADD c{number} text")
            await other.execute(
                f"ALTER TABLE things ALTER name TYPE {'varchar' if number % 2 else 'text'}"
            )

    changing = asyncio.create_task(change())
    written = 0
    with acting_as(MEL):
        while not changing.done():
            await known.fetch(INSERT, "more")
            await known.fetch(SELECT)
            written += 1
    await changing
    assert await other.fetchval("SELECT count(*) FROM things WHERE name = 'more'") == written
