"""The engine: bounded, lazy, and nothing leaks from one user of a connection to the next."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import asyncpg
import pytest
from structlog.testing import capture_logs

from audit.context import Actor, acting_as
from audit.errors import DatabaseUnavailable, PoolTimeout
from home.config.settings import Settings
from home.database.engine import Engine
from home.database.statements import leaves_state, may_write
from home.database.transaction import TransactionAborted
from tests.conftest import ROOT, all_given_back


async def backends(url: str) -> int:
    """Connections to the database, but for the one that asks."""
    connection = await asyncpg.connect(url)
    sql = "SELECT count(*) - 1 FROM pg_stat_activity WHERE datname = current_database()"
    count: int = await connection.fetchval(sql)
    await connection.close()
    return count


_engines: list[Engine] = []


def engine(url: str, **settings: Any) -> Engine:
    _engines.append(Engine(Settings(database_url=url, db_pool_min=0, **settings)))
    return _engines[-1]


@pytest.fixture(autouse=True)
def nothing_is_kept() -> Iterator[None]:
    """Without a pool an engine keeps a connection until its event loop ends."""
    yield
    while _engines:
        _engines.pop()._spare.hang_up()


def test_importing_the_configuration_touches_no_network() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"postgresql://someone:secret@127.0.0.1:{listener.getsockname()[1]}/db"
        subprocess.run(
            [sys.executable, "-c", "import piccolo_conf, main"],
            cwd=ROOT,
            env={**os.environ, "DATABASE_URL": url},
            check=True,
        )
        listener.setblocking(False)
        with pytest.raises(BlockingIOError):
            listener.accept()


@pytest.mark.direct
async def test_a_full_pool_refuses_instead_of_waiting_for_ever(url: str) -> None:
    db = engine(url, db_pool_max=3, db_connection_timeout_ms=200)
    await db.start_connection_pool()
    held = [await db.acquire() for _ in range(3)]
    waiting = [db.run_ddl("select 1") for _ in range(20)]
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(result) for result in results] == [PoolTimeout] * 20
    assert await backends(url) == 3
    for connection in held:
        await db.release(connection)
    assert await db.run_ddl("select 1")
    assert await all_given_back(db)
    await db.close_connection_pool()


async def test_giving_back_what_the_end_has_taken_away_fails_nobody(url: str) -> None:
    db = engine(url)
    await db.start_connection_pool()
    connection = await db.acquire()
    await db.close_connection_pool()  # somebody still holds one: cut off
    await db.release(connection)
    assert await backends(url) == 0


async def test_a_second_start_leaves_nothing_running(url: str) -> None:
    db = engine(url)
    await db.start_connection_pool()
    await db.start_connection_pool()
    await db.close_connection_pool()
    assert [task for task in asyncio.all_tasks() if task.get_name() == "keep the pool warm"] == []
    assert await backends(url) == 0


async def test_a_closed_server_opens_no_connections_of_its_own(url: str) -> None:
    db = engine(url)
    await db.start_connection_pool()
    await db.close_connection_pool()
    with pytest.raises(DatabaseUnavailable):
        await db.run_ddl("select 1")
    assert await backends(url) == 0


PID = "select pg_backend_pid()"


@pytest.mark.direct
async def test_without_a_pool_one_connection_serves_statement_after_statement(url: str) -> None:
    db = engine(url)
    first = await db.fetchval(PID)
    async with db.transaction() as transaction:
        assert await transaction.connection.fetchval(PID) == first
    assert await db.fetchval(PID) == first
    await asyncio.gather(*(db.fetch("select pg_sleep(0.1)") for _ in range(3)))
    assert await backends(url) == 1
    await db.start_connection_pool()
    async with asyncio.timeout(5):
        while await db.fetchval("SELECT count(*) FROM pg_stat_activity WHERE pid = $1", first):
            await asyncio.sleep(0.01)
    await db.close_connection_pool()


@pytest.mark.direct
@pytest.mark.parametrize("end", ["SET search_path TO pg_catalog", "BEGIN", "killed"])
async def test_without_a_pool_nobody_gets_a_connection_that_was_used_up(url: str, end: str) -> None:
    db = engine(url)
    connection = await db.acquire()
    first = await connection.fetchval(PID)
    if end != "killed":
        await connection.execute(end)
    await db.release(connection)
    if end == "killed":
        killer = await asyncpg.connect(url)
        await killer.execute("select pg_terminate_backend($1)", first)
        await killer.close()
        while not connection.is_closed():
            await asyncio.sleep(0.01)
    assert await db.fetchval(PID) != first
    assert await db.fetchval("show search_path") != "pg_catalog"
    await db.close_connection_pool()


@pytest.mark.direct
async def test_without_a_pool_the_connection_ends_with_its_event_loop(url: str) -> None:
    db = engine(url)
    for _ in range(2):  # one event loop after another, as in Piccolo's commands
        first, second = await asyncio.to_thread(asyncio.run, two_pids(db))
        assert first == second
        assert await backends(url) == 0


async def two_pids(db: Engine) -> tuple[int, int]:
    return await db.fetchval(PID), await db.fetchval(PID)


async def test_a_connection_lost_in_a_transaction_gives_its_slot_back(url: str) -> None:
    db = engine(url, db_pool_max=1)
    await db.start_connection_pool()
    with pytest.raises(DatabaseUnavailable):
        async with db.transaction():
            [row] = await db.run_ddl("select pg_backend_pid()")
            killer = await asyncpg.connect(url)
            await killer.execute("select pg_terminate_backend($1)", row["pg_backend_pid"])
            await killer.close()
            await db.run_ddl("select 1")
    assert await db.run_ddl("select 1")
    assert await all_given_back(db)
    await db.close_connection_pool()


async def test_the_first_error_is_the_one_that_is_reported(url: str) -> None:
    db = engine(url, db_pool_max=1)
    await db.start_connection_pool()
    with pytest.raises(ZeroDivisionError):
        async with db.transaction() as transaction:
            transaction.connection.terminate()
            raise ZeroDivisionError
    assert await db.run_ddl("select 1")
    await db.close_connection_pool()


async def test_a_commit_that_fails_gives_its_slot_back(url: str) -> None:
    db = engine(url, db_pool_max=1)
    await db.start_connection_pool()
    await db.run_ddl("create table deferred (n int unique deferrable initially deferred)")
    with pytest.raises(asyncpg.UniqueViolationError):
        async with db.transaction():
            await db.run_ddl("insert into deferred values (1), (1)")
    assert await db.run_ddl("select 1")
    assert await all_given_back(db)
    await db.close_connection_pool()


async def test_cancelled_work_gives_its_slot_back(url: str) -> None:
    db = engine(url, db_pool_max=2)
    await db.start_connection_pool()

    async def work() -> None:
        async with db.transaction():
            await db.run_ddl("select pg_sleep(0.01)")
            await db.run_ddl("select pg_sleep(0.01)")

    for pause in range(0, 40, 2):
        task = asyncio.create_task(work())
        await asyncio.sleep(pause / 1000)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert [await db.run_ddl("select 1") for _ in range(4)]
    assert await all_given_back(db)
    await db.close_connection_pool()


async def test_a_query_that_takes_too_long_is_ended(url: str) -> None:
    db = engine(url, db_pool_max=1, db_command_timeout_ms=100)
    await db.start_connection_pool()
    with pytest.raises(DatabaseUnavailable, match="timeout"):
        await db.run_ddl("select pg_sleep(30)")
    assert await db.run_ddl("select 1")
    await db.close_connection_pool()


async def test_a_savepoint_that_fails_is_undone_alone(db: Engine) -> None:
    await db.run_ddl("create table numbers (n int)")
    async with db.transaction():
        await db.run_ddl("insert into numbers values (1)")
        with pytest.raises(ZeroDivisionError):
            async with db.savepoint():
                await db.run_ddl("insert into numbers values (2)")
                raise ZeroDivisionError
        await db.run_ddl("insert into numbers values (3)")
    assert [row["n"] for row in await db.run_ddl("select n from numbers")] == [1, 3]


async def test_a_nested_transaction_that_fails_takes_the_outer_one_along(db: Engine) -> None:
    await db.run_ddl("create table numbers (n int)")
    with pytest.raises(TransactionAborted):
        async with db.transaction():
            await db.run_ddl("insert into numbers values (1)")
            with pytest.raises(ZeroDivisionError):
                async with db.transaction():
                    raise ZeroDivisionError
    assert await db.run_ddl("select n from numbers") == []
    assert await all_given_back(db)


async def test_a_write_inside_a_transaction_makes_no_savepoint(db: Engine) -> None:
    await db.run_ddl("create table numbers (n int)")
    with acting_as(Actor("ada@example.com")):
        async with db.transaction():
            await db.fetch("insert into numbers values (1)")
            xid = "select pg_current_xact_id()::text = xmin::text from numbers"
            assert await db.fetchval(xid)  # a savepoint would have an id of its own


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT 1",
        'SELECT "users"."id" FROM "users" WHERE ("users"."email" = $1) AND "users"."id" IN ($2)',
        "-- a comment\nSELECT count(*) FROM users",
        "/* update */ SELECT max(id) FROM users WHERE email = 'delete(from)'",
        "WITH one AS (SELECT 1) SELECT * FROM one",
        "SHOW search_path",
    ],
)
def test_a_plain_read_is_recognised(sql: str) -> None:
    assert not may_write(sql)


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE users SET email = 'a'",
        "/* a comment */ UPDATE users SET email = 'a'",
        "-- one\n-- two\nDELETE FROM users",
        "WITH gone AS (DELETE FROM users RETURNING 1) SELECT * FROM gone",
        "CALL promote(1)",
        "DO $$ BEGIN DELETE FROM users; END $$",
        "SELECT promote(1)",
        "SELECT public.promote (1)",
        'SELECT "promote"(1)',
        "SELECT promote/* */(1)",
        "SELECT 1; DELETE FROM users",
        "SELECT E'\\'' || promote(1) || '\\''",
        "SELECT * INTO copies FROM users",
        "SELECT id FROM users FOR UPDATE",
        "MERGE INTO users USING users AS old ON true WHEN MATCHED THEN DELETE",
        "COPY users FROM STDIN",
        "EXPLAIN ANALYZE DELETE FROM users",
    ],
)
def test_what_is_not_known_to_be_a_read_may_write(sql: str) -> None:
    assert may_write(sql)


async def test_tasks_gathered_in_a_transaction_share_it_and_take_turns(db: Engine) -> None:
    await db.run_ddl("create table numbers (n int)")
    with pytest.raises(ZeroDivisionError):
        async with db.transaction():
            inserts = [db.run_ddl(f"insert into numbers values ({n})") for n in range(10)]
            await asyncio.gather(*inserts)
            assert len(await db.run_ddl("select n from numbers")) == 10
            raise ZeroDivisionError
    assert await db.run_ddl("select n from numbers") == []


async def test_a_task_that_outlives_its_transaction_uses_the_pool(db: Engine) -> None:
    over = asyncio.Event()

    async def late() -> object:
        await over.wait()
        async with db.transaction():
            return await db.run_ddl("select 1")

    async with db.transaction():
        task = asyncio.create_task(late())
        await asyncio.sleep(0)
    over.set()
    assert await task


@pytest.mark.direct
@pytest.mark.parametrize(
    ("sql", "look"),
    [
        ("SET search_path TO pg_catalog", "SHOW search_path"),
        ("SET SESSION statement_timeout = 7", "SHOW statement_timeout"),
        (
            "select set_config('app.actor', 'ada', false)",
            "SELECT current_setting('app.actor', true)",
        ),
        ("CREATE TEMP TABLE leftover (n int)", "SELECT to_regclass('leftover')"),
        ("select pg_advisory_lock(7)", "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"),
        ("SET ROLE pg_monitor", "SELECT current_user"),
        ("LISTEN news", "SELECT count(*) FROM pg_listening_channels()"),
        (
            "DECLARE leftover CURSOR WITH HOLD FOR SELECT 1",
            "SELECT count(*) FROM pg_cursors WHERE name = 'leftover'",
        ),
    ],
)
async def test_no_state_leaks_to_the_next_user(url: str, sql: str, look: str) -> None:
    db = engine(url, db_pool_max=1)
    await db.start_connection_pool()
    before = await db.run_ddl(look)
    await db.run_ddl(sql)
    assert await db.run_ddl(look) == before
    await db.close_connection_pool()


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT 1",
        "UPDATE users SET email = 'a' WHERE id = 1",
        "INSERT INTO t VALUES (1) ON CONFLICT (id) DO UPDATE SET n = 2",
        "SELECT set_config('app.actor', $1, true)",
        "SET LOCAL lock_timeout = 5",
        "SELECT pg_advisory_xact_lock(1)",
        "DECLARE rows NO SCROLL CURSOR FOR SELECT 1",
        "BEGIN;",
    ],
)
def test_ordinary_statements_keep_their_connection(sql: str) -> None:
    assert not leaves_state(sql)


async def test_a_slow_query_is_logged_with_its_text_and_without_its_values(url: str) -> None:
    db = engine(url, db_slow_query_ms=1)
    async with db.connection() as connection:
        with capture_logs() as logs:
            await connection.fetch("select pg_sleep(0.01), $1::text", "canary")
    [slow] = [entry for entry in logs if entry["event"] == "slow_query"]
    assert slow["sql"] == "select pg_sleep(0.01), $1::text"
    assert "canary" not in repr(logs)


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ("postgresql://someone:s3cret@127.0.0.1:1/db", "refused"),
        ("postgresql://someone:s3cret@no-such-host.invalid/db", "unknown_host"),
        ("postgresql://someone:s3cret@/db?host=/nowhere", "refused"),
    ],
)
async def test_why_it_is_unavailable(wrong: str, reason: str) -> None:
    with pytest.raises(DatabaseUnavailable) as caught:
        await engine(wrong).run_ddl("select 1")
    assert caught.value.reason == reason
    assert "s3cret" not in str(caught.value)


@pytest.mark.direct
async def test_an_unknown_database_is_named_as_such(url: str) -> None:
    with pytest.raises(DatabaseUnavailable, match="unknown_database"):
        await engine(url.replace("/test_", "/no_such_")).run_ddl("select 1")


async def test_the_pool_exists_before_the_database_and_warms_once_it_is_there(url: str) -> None:
    db = Engine(Settings(database_url="postgresql://nobody@127.0.0.1:1/db", db_pool_min=2))
    with capture_logs() as logs:
        await db.start_connection_pool()
        with pytest.raises(DatabaseUnavailable):
            await db.run_ddl("select 1")
        while not any(entry["event"] == "database_unavailable" for entry in logs):
            await asyncio.sleep(0.01)
        database = Settings(database_url=url).database
        assert database is not None
        db.config.update(database.args)  # the database starts
        while db.figures().size < 2:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.05)
    events = [entry["event"].split(" 1")[0] for entry in logs]
    assert "database_unavailable" in events
    assert "Connected to PostgreSQL" in events
    await db.close_connection_pool()
