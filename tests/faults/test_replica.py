"""R11: a real streaming replica, stopped, paused, lagging and promoted."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import asyncpg
import httpx
import pytest

import piccolo_conf
from audit.jobs import Supervisor
from home.config.settings import Settings
from home.database.engine import Engine
from home.database.migrations import migrate
from home.database.replica import REPLAYED, SENT, required_lsn
from home.tables import User
from tests.conftest import (
    PASSWORD,
    browser,
    create_app,
    installed_server,
    point_at,
    run_piccolo,
    sign_in,
)
from tests.postgres import Server

pytestmark = [pytest.mark.direct, pytest.mark.long]
PORT = "SELECT current_setting('port')::int AS port"  # a plain read, of known functions only
SLOW = """
    WITH RECURSIVE numbers AS (
        SELECT 1 AS n UNION ALL SELECT n + 1 FROM numbers WHERE n < 3000000
    ) SELECT max(n) AS n, current_setting('port')::int AS port FROM numbers
"""


@pytest.fixture(scope="module")
async def primary() -> AsyncIterator[Server]:
    server = installed_server()
    server.start()
    await migrate(point_at(server.url()))
    yield server
    server.remove()


@pytest.fixture(scope="module")
def standby(primary: Server) -> Iterator[Server]:
    server = Server(primary.binaries, primary=primary)
    server.start()
    yield server
    server.remove()


@pytest.fixture
async def db(
    primary: Server, standby: Server, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Engine]:
    """The tables' engine, with a replica that is usable."""
    settings = Settings(database_url=primary.url(), database_replica_url=standby.url())
    with_replica = Engine(settings)
    db = point_at(primary.url())
    monkeypatch.setattr(db, "replica", with_replica.replica)
    monkeypatch.setattr(db, "extra_nodes", with_replica.extra_nodes)
    assert db.replica is not None
    db.replica.primary = db
    monkeypatch.setattr(db, "jobs", Supervisor(db._jobs()))  # which now watch the replica
    await db.start_connection_pool()
    await until(lambda: replica_of(db).state.usable)
    yield db
    await db.close_connection_pool()


def replica_of(db: Engine) -> Any:
    return db.replica


async def until(condition: Callable[[], bool], seconds: float = 5) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)


async def answered_by(db: Engine) -> int:
    """The port of the server that answers a read that may be stale."""
    [row] = await db.fetch(PORT)
    return int(row["port"])


@pytest.fixture
def stale() -> Iterator[None]:
    token = required_lsn.set(0)
    yield
    required_lsn.reset(token)


async def test_only_reads_that_may_be_stale_go_there(
    db: Engine, primary: Server, standby: Server
) -> None:
    assert await answered_by(db) == primary.port
    token = required_lsn.set(0)
    assert await answered_by(db) == standby.port
    async with db.transaction():
        assert await answered_by(db) == primary.port
    required_lsn.reset(token)
    assert await User.select(User.id).limit(1).run(node="replica") == []
    assert db.extra_nodes["replica"] is replica_of(db).engine


async def test_its_pool_starts_and_stops_with_the_main_one(db: Engine, stale: None) -> None:
    node = replica_of(db).engine
    await asyncio.gather(*[db.fetch(PORT) for _ in range(60)])
    assert 0 < node.figures().size <= db.settings.db_pool_max
    await db.close_connection_pool()
    assert node.pool is None
    assert [task for task in asyncio.all_tasks() if task.get_name() == "watch the replica"] == []


@pytest.mark.parametrize("which", ["primary", "standby"])
async def test_its_watch_survives_twenty_connections(
    db: Engine, primary: Server, standby: Server, which: str
) -> None:
    """The job asks both servers, on a connection each."""
    [job] = [status for status in db.jobs.statuses if status.job.name == "watch the replica"]
    server = primary if which == "primary" else standby
    superuser = await asyncpg.connect(server.url())
    watches = """
        SELECT pg_terminate_backend(pid) FROM pg_stat_activity
        WHERE query IN (SELECT unnest($1::text[])) AND pid <> pg_backend_pid()
    """
    for _ in range(20):
        async with asyncio.timeout(5):
            while not await superuser.fetch(watches, [SENT, REPLAYED]):
                await asyncio.sleep(0.01)
        job.last_success_at = None
        await until(lambda: job.last_success_at is not None and replica_of(db).state.usable)
    await superuser.close()
    assert job.failures_in_a_row == 0


@pytest.mark.parametrize("how", ["stopped", "paused"])
async def test_reads_go_on_against_the_primary_within_a_second(
    db: Engine, primary: Server, standby: Server, stale: None, how: str
) -> None:
    in_flight = asyncio.create_task(db.fetch(SLOW))
    await until(lambda: bool(replica_of(db)._reading))
    if how == "stopped":
        standby.stop("immediate")
    else:
        standby.signal(signal.SIGSTOP)
    async with asyncio.timeout(1):
        assert await answered_by(db) == primary.port
    await until(lambda: not replica_of(db).state.usable, seconds=1)
    async with asyncio.timeout(3):
        [row] = await in_flight  # it began anew, on the primary
    assert row["port"] == primary.port
    if how == "stopped":
        standby.start()
    else:
        standby.signal(signal.SIGCONT)
    await until(lambda: replica_of(db).state.usable)
    assert await answered_by(db) == standby.port


async def test_a_replica_that_lags_serves_nobody_until_it_has_caught_up(
    db: Engine, primary: Server, standby: Server, stale: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("home.database.replica.MAX_LAG_SECONDS", 0.5)
    await pause_replay(standby)
    await db.run_ddl("CREATE TABLE IF NOT EXISTS numbers AS SELECT 1 AS n")
    await until(lambda: replica_of(db).state.error == "lagging")
    state = replica_of(db).state
    assert state.lag_seconds >= 0.5
    assert state.lag_bytes > 0
    assert await answered_by(db) == primary.port
    await resume_replay(standby)
    await until(lambda: replica_of(db).state.usable)
    assert await answered_by(db) == standby.port


async def pause_replay(standby: Server) -> None:
    await tell(standby, "SELECT pg_wal_replay_pause()")
    while await tell(standby, "SELECT pg_get_wal_replay_pause_state()") != "paused":
        pass


async def resume_replay(standby: Server) -> None:
    await tell(standby, "SELECT pg_wal_replay_resume()")


async def tell(server: Server, sql: str) -> Any:
    connection = await asyncpg.connect(server.url())
    found = await connection.fetchval(sql)
    await connection.close()
    return found


@pytest.fixture
async def clients(db: Engine) -> AsyncIterator[list[httpx.AsyncClient]]:
    """Ada and Bo, two administrators, at two processes' worth of application."""
    apps = [create_app(piccolo_conf.SETTINGS, db) for _ in range(2)]
    clients = []
    for app, name in zip(apps, ("ada", "bo"), strict=True):
        email = f"{name}@example.com"
        if not await User.exists().where(User.email == email):
            rights = {"is_admin": True, "is_superuser": True, "is_approved": True}
            await User.create_user(email, PASSWORD, **rights)
        clients.append(browser(app))
        await sign_in(clients[-1], email)
    yield clients
    for client in clients:
        await client.aclose()


async def organizations(client: httpx.AsyncClient) -> set[str | None]:
    answer = await client.get("/admin/api/tables/users/")
    assert answer.status_code == 200, answer.text
    return {row["organization"] for row in answer.json()["rows"]}


async def test_who_has_just_written_reads_it_and_others_may_read_it_later(
    db: Engine, standby: Server, clients: list[httpx.AsyncClient]
) -> None:
    ada, bo = clients
    await until(lambda: replica_of(db).replayed >= int(bo.cookies["position"], 16))
    assert await organizations(bo) == {None}
    await pause_replay(standby)
    [row] = await User.select(User.id).where(User.email == "bo@example.com")
    for number in range(20):
        path = f"/admin/api/tables/users/{row['id']}/"
        answer = await ada.patch(path, json={"organization": f"Harbour {number}"})
        assert answer.status_code == 200, answer.text
        assert f"Harbour {number}" in await organizations(ada)
        assert await organizations(bo) == {None}, "he reads the replica"
    await resume_replay(standby)
    position = int(ada.cookies["position"], 16)
    await until(lambda: replica_of(db).replayed >= position)
    assert "Harbour 19" in await organizations(bo)
    await User.update({User.organization: None}, force=True)


async def test_rights_are_never_stale(
    db: Engine, standby: Server, clients: list[httpx.AsyncClient]
) -> None:
    bo = clients[1]
    await pause_replay(standby)
    await User.update({User.is_admin: False, User.is_superuser: False}).where(
        User.email == "bo@example.com"
    )
    assert (await bo.get("/admin/api/tables/users/")).status_code == 401
    await resume_replay(standby)
    await User.update({User.is_admin: True, User.is_superuser: True}).where(
        User.email == "bo@example.com"
    )


async def test_health_tells_how_far_behind_it_is(
    db: Engine, clients: list[httpx.AsyncClient]
) -> None:
    found = (await clients[0].get("/api/health?details")).json()["database"]["replica"]
    assert found["usable"] is True
    assert found["lag_seconds"] >= 0
    metrics = (await clients[0].get("/metrics")).text
    assert "groundwork_replica_usable 1.0" in metrics


async def test_an_export_reads_the_replica_if_that_is_up_to_date(
    db: Engine, primary: Server, standby: Server
) -> None:
    for paused, port in ((False, standby.port), (True, primary.port)):
        if paused:
            await pause_replay(standby)
            await db.run_ddl("UPDATE users SET organization = NULL")
        async with db.reading() as connection:
            assert await connection.fetchval("SELECT inet_server_port()") == port, paused
    await resume_replay(standby)
    done = await asyncio.to_thread(
        run_piccolo, primary.url(), "audit", "export", DATABASE_REPLICA_URL=standby.url()
    )
    assert done.returncode == 0, done.stderr


async def test_a_replica_that_was_promoted_is_none_any_more(
    db: Engine, primary: Server, standby: Server, stale: None
) -> None:
    standby.promote()  # which is why this test is the last
    await until(lambda: replica_of(db).state.error == "promoted", seconds=1)
    assert await answered_by(db) == primary.port
