"""What migrations would block is found by trying, and refused by name; nothing is changed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest

import piccolo_conf_test as piccolo_conf
from home.database import migrations
from home.database.engine import Engine
from home.database.lock_watch import EndsTransaction, statements
from home.database.migrations import MigrationFailed, StepFailed, migrate
from home.database.rehearsal import WouldBlock, refuse_what_blocks, rehearse
from home.database.schema import read_catalog
from tests.conftest import missing
from tests.home.database.pending import READINGS, Pending, pending

__all__ = ["pending"]
pytestmark = [pytest.mark.direct, pytest.mark.any_version]


@pytest.fixture
async def other(url: str) -> AsyncIterator[asyncpg.Connection]:
    """Somebody else, on a database with a table that is not small."""
    connection = await asyncpg.connect(url)
    await connection.execute(READINGS)
    yield connection
    await connection.close()


@pytest.fixture
def db(other: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch) -> Engine:
    """The engine without a pool, as commands have it."""
    return with_limit(monkeypatch, 5_000)


def with_limit(monkeypatch: pytest.MonkeyPatch, limit_ms: int) -> Engine:
    settings = piccolo_conf.SETTINGS.model_copy(update={"migrate_max_lock_ms": limit_ms})
    monkeypatch.setattr(piccolo_conf.DB, "settings", settings)
    return piccolo_conf.DB


@pytest.fixture
def squawk() -> None:
    from home.database.lint import find_squawk

    if find_squawk() is None:
        missing("squawk", "pip install squawk-cli")


@pytest.mark.usefixtures("squawk")
@pytest.mark.parametrize(
    ("statement", "name"),
    [
        ("ALTER TABLE readings ALTER value TYPE bigint", "rewrites readings, which is not small"),
        ("ALTER TABLE readings ALTER value TYPE bigint", "changing-column-type"),
        ("ALTER TABLE readings ALTER note SET NOT NULL", "adding-not-nullable-field"),
        ("ALTER TABLE readings ADD u uuid DEFAULT gen_random_uuid()", "adding-field-with-default"),
        (
            "ALTER TABLE readings ADD g int GENERATED ALWAYS AS (value) STORED",
            "adding-field-with-default",
        ),
        (
            "ALTER TABLE readings ADD CONSTRAINT f FOREIGN KEY (sensor_id) REFERENCES sensors (id)",
            "adding-foreign-key-constraint",
        ),
        (
            "ALTER TABLE readings ADD CONSTRAINT c CHECK (value > 0)",
            "constraint-missing-not-valid",
        ),
        ("ALTER TABLE readings ADD CONSTRAINT u UNIQUE (value)", "disallowed-unique-constraint"),
        ("CREATE INDEX i ON readings (note)", "require-concurrent-index-creation"),
        ("DROP INDEX readings_value", "require-concurrent-index-deletion"),
        ("ALTER TABLE readings DROP COLUMN note", "ban-drop-column"),
        ("ALTER TABLE sensors RENAME COLUMN id TO number", "renaming-column"),
        ("ALTER TABLE sensors RENAME TO meters", "renaming-table"),
        ("DROP TABLE sensors", "ban-drop-table"),
    ],
)
async def test_each_dangerous_step_is_refused_by_name(
    db: Engine, pending: Pending, statement: str, name: str
) -> None:
    id_ = pending.add(statement)
    with pytest.raises(WouldBlock) as caught:
        await refuse_what_blocks(db)
    assert f"{id_}: {name}" in str(caught.value)
    assert "piccolo home migrate --check" in str(caught.value)


@pytest.mark.usefixtures("squawk")
@pytest.mark.parametrize(
    "statement",
    [
        "ALTER TABLE readings ADD extra integer",
        "ALTER TABLE readings ADD extra integer NOT NULL DEFAULT 7",
        "ALTER TABLE readings ALTER note TYPE varchar(300)",
        "ALTER TABLE readings ALTER checked SET NOT NULL",
        "ALTER TABLE readings ADD CONSTRAINT c CHECK (value > 0) NOT VALID",
        "CREATE TABLE places (id serial PRIMARY KEY, sensor_id integer REFERENCES sensors (id));"
        "CREATE INDEX places_sensor_id ON places (sensor_id)",
        "CREATE INDEX i ON sensors (id)",
    ],
)
async def test_what_blocks_nobody_for_long_is_not_refused(
    db: Engine, pending: Pending, statement: str
) -> None:
    pending.add(statement)
    found = await rehearse(db)
    assert (found.refusals, found.is_linted) == ([], True)


async def test_it_shows_locks_with_whom_they_block(db: Engine, pending: Pending) -> None:
    first = pending.add("CREATE INDEX i ON sensors (id); UPDATE readings SET value = 0")
    second = pending.add("ALTER TABLE sensors ADD place text")
    found = await rehearse(db)
    seen = [
        (step.migration, lock.table, lock.mode, lock.blocks)
        for step in found.steps
        for lock in step.locks
    ]
    assert seen == [
        (first, "sensors", "ShareLock", "writers"),
        (first, "readings", "RowExclusiveLock", ""),
        (first, "readings", "RowLock", "writers of the rows that it changed"),
        (second, "sensors", "AccessExclusiveLock", "readers and writers"),
    ]
    held = [lock.held_ms or 0 for lock in found.blocking[:2]]
    assert held == sorted(held, reverse=True), "each is held until the end of its migration"
    assert [step.sql for step in found.steps][:2] == [
        "CREATE INDEX i ON sensors (id)",
        "UPDATE readings SET value = 0",
    ]


async def test_the_rehearsal_changes_nothing(
    db: Engine, pending: Pending, other: asyncpg.Connection
) -> None:
    async def everything() -> object:
        rows = await other.fetch("SELECT xmin::text, * FROM readings ORDER BY id")
        return await read_catalog(other, "public"), rows, await other.fetch("TABLE migration")

    before = await everything()
    pending.add("ALTER TABLE readings ALTER value TYPE bigint", "DELETE FROM readings")
    pending.add("DROP TABLE sensors")
    assert len((await rehearse(db)).steps) == 3
    assert await everything() == before


@pytest.mark.parametrize(
    "script", ["{lock}; SELECT pg_sleep(60)", "DO $$BEGIN {lock}; PERFORM pg_sleep(60); END$$"]
)
async def test_it_ends_within_its_bound_and_nobody_waits_longer(
    monkeypatch: pytest.MonkeyPatch, other: asyncpg.Connection, pending: Pending, script: str
) -> None:
    db = with_limit(monkeypatch, 200)
    pending.add(script.format(lock="LOCK readings"))
    later = pending.add("SELECT 1")
    trying = asyncio.create_task(rehearse(db))
    await other.execute("SET lock_timeout = '20s'")
    writes = 0
    while not trying.done():
        await other.execute("UPDATE readings SET value = value + 1 WHERE id = 1")
        await asyncio.sleep(0.01)
        writes += 1
    found = await trying
    assert found.steps[-1].is_stopped
    assert found.later == [later]
    [line] = found.refusals
    assert "was stopped after 200 ms" in line
    assert "AccessExclusiveLock on readings blocks readers and writers" in line
    assert writes, "nobody wrote meanwhile"


async def test_steps_that_take_too_long_together_are_stopped(
    monkeypatch: pytest.MonkeyPatch, other: asyncpg.Connection, pending: Pending
) -> None:
    db = with_limit(monkeypatch, 200)
    pending.add("SELECT pg_sleep(0.15)", "LOCK readings", *["SELECT pg_sleep(0.05)"] * 20)
    found = await rehearse(db)
    assert "was stopped after 200 ms" in found.refusals[0]
    assert len(found.steps) < 12, "it went on"


async def test_without_a_limit_nothing_is_stopped(
    monkeypatch: pytest.MonkeyPatch, other: asyncpg.Connection, pending: Pending
) -> None:
    db = with_limit(monkeypatch, 0)
    pending.add("LOCK readings", "SELECT pg_sleep(0.3)")
    assert (await rehearse(db)).refusals == []


async def test_what_comes_after_concurrent_steps_is_said_not_to_be_tried(
    db: Engine, pending: Pending
) -> None:
    pending.add("ALTER TABLE readings ADD extra integer")
    index = "CREATE INDEX CONCURRENTLY i ON readings (note)"
    ids = [pending.add(index, concurrent=True), pending.add("SELECT 1")]
    found = await rehearse(db)
    assert (found.concurrent, found.later) == ([index], ids)
    assert len(found.steps) == 1


async def test_who_waits_for_a_table_lets_others_write_and_tries_again(
    monkeypatch: pytest.MonkeyPatch, other: asyncpg.Connection, pending: Pending, url: str
) -> None:
    db = with_limit(monkeypatch, 50)
    id_ = pending.add("ALTER TABLE readings ADD extra integer")
    told: list[str] = []
    reader = await asyncpg.connect(url)
    reading = reader.transaction()
    await reading.start()
    await reader.execute("SELECT FROM readings LIMIT 1")
    await other.execute("SET lock_timeout = '20s'")
    migrating = asyncio.create_task(migrate(db, tell=told.append))
    async with asyncio.timeout(20):
        while len(told) < 3:  # each try tells it
            await other.execute("UPDATE readings SET value = 1 WHERE id = 1")
            await asyncio.sleep(0.005)
    await reading.rollback()
    assert await migrating == [id_]
    await reader.close()


async def test_who_never_gets_a_table_says_so(
    monkeypatch: pytest.MonkeyPatch, other: asyncpg.Connection, pending: Pending
) -> None:
    monkeypatch.setattr(migrations, "TRIES", 2)
    db = with_limit(monkeypatch, 20)
    pending.add("ALTER TABLE readings ADD extra integer")
    async with other.transaction():
        await other.execute("SELECT FROM readings LIMIT 1")
        with pytest.raises(MigrationFailed, match="was in use"):
            await migrate(db)
        with pytest.raises(MigrationFailed, match="was in use"):
            await rehearse(db)


async def test_what_is_refused_keeps_what_came_before(db: Engine, pending: Pending) -> None:
    """Each transaction is tried when its turn comes: after concurrent steps, too."""
    first = pending.add("ALTER TABLE readings ADD extra integer")
    second = pending.add("CREATE UNIQUE INDEX CONCURRENTLY i ON readings (extra)", concurrent=True)
    pending.add("ALTER TABLE readings ADD CONSTRAINT u UNIQUE USING INDEX i; DROP TABLE sensors")
    told: list[str] = []
    with pytest.raises(WouldBlock, match="ban-drop-table"):
        await migrate(db, check=lambda: refuse_what_blocks(db), tell=told.append)
    assert (await db.fetch("SELECT FROM migration WHERE name = ANY($1)", [first, second]))[1:]
    assert await db.fetchval("SELECT to_regclass('sensors')") is not None


def test_scripts_are_taken_apart_where_statements_end() -> None:
    script = """
        -- a; b
        SELECT 'a;b', E'\\';', "c;d" /* e; f */;
        CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS $x$ BEGIN; RETURN NEW; END $x$;
        SELECT $1, $2;
        -- the end
    """
    found = [each.partition("\n")[2].strip() or each for each in statements(script)]
    assert [each.split()[0] for each in found] == ["SELECT", "CREATE", "SELECT"]
    atomic = "CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT 1; END; SELECT 2"
    assert statements(atomic) == [atomic]


@pytest.mark.parametrize(
    "statements_of_it",
    [
        ("BEGIN; ALTER TABLE readings ADD sneaky int; COMMIT;",),
        ("CREATE TABLE sneaky (i int)", "COMMIT"),
        ("CREATE TABLE sneaky (i int); commit ; BEGIN",),
        ("/* x */ START  TRANSACTION", "CREATE TABLE sneaky (i int)"),
        ("CREATE FUNCTION sneaky() RETURNS int BEGIN ATOMIC SELECT 1; END; COMMIT",),
    ],
)
async def test_what_would_end_the_transaction_is_refused(
    db: Engine, other: asyncpg.Connection, pending: Pending, statements_of_it: tuple[str, ...]
) -> None:
    """Else what is only tried would stay."""
    before = await read_catalog(other, "public")
    id_ = pending.add(*statements_of_it)
    with pytest.raises(EndsTransaction, match=id_):
        await rehearse(db)
    assert await read_catalog(other, "public") == before
    assert id_ not in await migrations.applied_migrations(other)


@pytest.mark.usefixtures("squawk")
async def test_a_script_that_begins_with_a_setting_is_watched(db: Engine, pending: Pending) -> None:
    pending.add("SET LOCAL lock_timeout = 2000; ALTER TABLE readings ALTER value TYPE bigint")
    pending.add("-- x\nset local lock_timeout = 2000; ALTER TABLE readings DROP COLUMN note")
    refusals = "\n".join((await rehearse(db)).refusals)
    assert "rewrites readings" in refusals
    assert "ban-drop-column" in refusals


async def test_what_blocks_nobody_may_take_long_and_swallowing_errors_hides_nothing(
    monkeypatch: pytest.MonkeyPatch, other: asyncpg.Connection, pending: Pending
) -> None:
    db = with_limit(monkeypatch, 300)
    pending.add('SELECT "migration" FROM (SELECT pg_sleep(2)::text AS migration) AS x')
    found = await rehearse(db)
    assert found.refusals == []
    assert [step.is_stopped for step in found.steps] == [True]
    pending.modules.clear()
    pending.add("ALTER TABLE readings ADD x int; SELECT pg_sleep(2)", swallow=True)
    [refusal] = (await rehearse(db)).refusals
    assert "AccessExclusiveLock on readings blocks readers and writers" in refusal


async def test_a_migration_that_fails_is_named(db: Engine, pending: Pending) -> None:
    pending.add("CREATE TABLE good (i int)")
    id_ = pending.add("SELECT 1 / 0")
    with pytest.raises(StepFailed, match=f"{id_}: division by zero"):
        await rehearse(db)
