"""Steps that run outside of transactions: killed in the middle, they go on; nobody is blocked."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

import piccolo_conf_test as piccolo_conf
from audit.concurrent import ConcurrentStep, NotConcurrent
from audit.ddl import AppMigration
from home.database.migrations import migrate
from tests.conftest import ROOT, run_groundwork
from tests.home.database.moving import Moving
from tests.home.database.pending import READINGS, Pending, pending

__all__ = ["pending"]
pytestmark = [pytest.mark.direct, pytest.mark.any_version]
INDEX = 'CREATE UNIQUE INDEX CONCURRENTLY "by value" ON readings (value)'
VALID = "SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass('\"by value\"')"
BUILDERS = """
    SELECT pid FROM pg_stat_activity
    WHERE query LIKE 'CREATE UNIQUE INDEX CONCURRENTLY%' AND state = 'active'
      AND wait_event = 'virtualxid'
"""


@pytest.fixture
async def other(url: str) -> AsyncIterator[asyncpg.Connection]:
    """Somebody else, on a database with a table that is not small."""
    connection = await asyncpg.connect(url)
    await connection.execute(READINGS)
    yield connection
    await connection.close()


@pytest.mark.parametrize("server_goes_on", [False, pytest.param(True, marks=pytest.mark.long)])
async def test_an_index_that_is_killed_in_the_middle_is_built_by_the_next_run(
    url: str, other: asyncpg.Connection, tmp_path: Path, server_goes_on: bool
) -> None:
    moving = Moving(tmp_path)
    id_ = moving.add("index", INDEX, concurrent=True)
    after = moving.add("after", 'ALTER TABLE readings ADD UNIQUE USING INDEX "by value"')
    old = await asyncpg.connect(url)  # for whose end the index waits
    waited_for = old.transaction(isolation="repeatable_read")
    await waited_for.start()
    await old.fetchval("SELECT count(*) FROM readings")
    command = [sys.executable, "-m", "home", "home", "migrate"]
    process = subprocess.Popen(
        command, cwd=ROOT, env={**os.environ, "DATABASE_URL": url, **moving.env}
    )
    async with asyncio.timeout(20):
        while not (builders := await other.fetch(BUILDERS)):
            await asyncio.sleep(0.02)
    process.kill()
    process.wait()
    await other.execute("UPDATE readings SET note = 'written meanwhile' WHERE id = 1")
    if not server_goes_on:
        await other.execute("SELECT pg_terminate_backend($1, 5000)", builders[0]["pid"])
    assert await other.fetchval(VALID) is False
    assert await other.fetchval("SELECT count(*) FROM migration WHERE name = $1", id_) == 0

    again = asyncio.create_task(
        asyncio.to_thread(run_groundwork, url, "home", "migrate", **moving.env)
    )
    await asyncio.sleep(1)
    assert not again.done(), "it did not wait for the old transaction"
    await waited_for.rollback()
    await old.close()
    done = await again
    assert done.stdout == f"applied {id_}\napplied {after}\n", done.stderr
    constraints = "SELECT count(*) FROM pg_constraint WHERE conrelid = 'readings'::regclass"
    assert await other.fetchval(f"{constraints} AND contype = 'u'") == 1


async def test_a_unique_index_that_rows_refuse_leaves_nothing(
    url: str, other: asyncpg.Connection, pending: Pending
) -> None:
    await other.execute("UPDATE readings SET value = 7 WHERE id < 3")
    pending.add(INDEX, concurrent=True)
    with pytest.raises(asyncpg.UniqueViolationError):
        await migrate(piccolo_conf.DB)
    assert await other.fetchval(VALID) is None
    await other.execute("UPDATE readings SET value = -id")
    assert len(await migrate(piccolo_conf.DB)) == 1
    assert await other.fetchval(VALID) is True


async def test_two_at_once_build_it_once(
    url: str, other: asyncpg.Connection, tmp_path: Path
) -> None:
    moving = Moving(tmp_path)
    ids = [
        moving.add("constraint", "ALTER TABLE readings ADD CONSTRAINT c CHECK (id > 0) NOT VALID"),
        moving.add("validate", "ALTER TABLE readings VALIDATE CONSTRAINT c", concurrent=True),
        moving.add("index", INDEX, concurrent=True),
    ]
    runs = [
        asyncio.to_thread(run_groundwork, url, "home", "migrate", **moving.env) for _ in range(2)
    ]
    done = await asyncio.gather(*runs)
    assert [each.returncode for each in done] == [0] * 2, "\n".join(each.stderr for each in done)
    said = sorted(line for each in done for line in each.stdout.splitlines())
    assert [line for line in said if line.startswith("applied")] == [
        f"applied {id_}" for id_ in ids
    ]
    assert await other.fetchval(VALID) is True
    assert await other.fetchval("SELECT convalidated FROM pg_constraint WHERE conname = 'c'")


async def test_backwards_drops_the_index(url: str, other: asyncpg.Connection) -> None:
    manager = AppMigration(migration_id="x", app_name="home")
    manager.add_concurrent(INDEX)
    await manager.run()
    assert await other.fetchval(VALID) is True
    await other.execute("DELETE FROM migration WHERE app_name = 'sync_history'")
    await manager.run(backwards=True)
    assert await other.fetchval(VALID) is None


async def test_where_a_transaction_is_open_it_is_a_part_of_it(
    url: str, other: asyncpg.Connection
) -> None:
    """As for `home verify`, which builds the schema beside, and `home reset`."""
    manager = AppMigration(migration_id="x", app_name="home")
    manager.add_concurrent(INDEX)
    async with piccolo_conf.DB.transaction() as transaction:
        await manager.run()
        assert await piccolo_conf.DB.fetchval(VALID) is True
        await transaction.rollback()
    assert await other.fetchval(VALID) is None


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE INDEX i ON readings (value)",
        "CREATE INDEX CONCURRENTLY ON readings (value)",
        "DROP INDEX CONCURRENTLY i",
        "ALTER TABLE readings ADD CHECK (value > 0)",
        "CREATE INDEX CONCURRENTLY i ON readings (value); DROP TABLE readings",
        "VACUUM readings",
    ],
)
def test_other_statements_are_refused(statement: str) -> None:
    with pytest.raises(NotConcurrent, match="add_concurrent takes"):
        AppMigration().add_concurrent(statement)


async def test_beside_other_steps_it_is_refused(url: str) -> None:
    manager = AppMigration(migration_id="x", app_name="home")
    manager.add_table("Made", "made")
    manager.add_concurrent(INDEX)
    with pytest.raises(NotConcurrent, match="make two migrations of it"):
        await manager.run()
    assert await piccolo_conf.DB.fetchval("SELECT to_regclass('made')") is None


def test_what_a_step_is_about() -> None:
    step = ConcurrentStep('create index concurrently "A b"\n  on s."T" (x);')
    assert step.index == ('s."T"', '"A b"')
    assert step.in_a_transaction == 'create index "A b" on s."T" (x)'
    assert ConcurrentStep("DROP INDEX CONCURRENTLY IF EXISTS i").index is None
