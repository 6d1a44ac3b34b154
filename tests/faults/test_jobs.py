"""Each job of the application fails twenty times in a row, by what databases and people do to it,
and goes on: logged, counted in /metrics, and with a last success that moves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

import asyncpg
import pytest
from prometheus_client import CollectorRegistry, generate_latest
from pydantic import SecretStr
from structlog.testing import capture_logs
from structlog.typing import EventDict

import piccolo_conf
from audit.jobs import Job, JobStatus, Supervisor
from home.composition import message_jobs
from home.database.engine import Engine
from home.database.probe import Verdict
from home.database.replica import Replica
from home.monitoring.metrics import Figures, OfProcess
from home.services import Services
from sync_history import scheduler
from tests.postgres import Server

pytestmark = pytest.mark.direct
TIMES = 20
# A table that each job needs.
NEEDS = {
    "seal the trail": "audit_seals",
    "purge sessions": "sessions",
    "report refused sign-ins": None,  # it asks only where there is something to report
    "start sync runs": "sync_history",
    "compare the clocks": "sessions",
    "deliver mail": "outbox",
    "deliver webhook": "outbox",
    "purge messages": "outbox",
    "look for notices": "outbox",
    "watch the replica": None,  # what it cannot reach is what it tells, see test_replica.py
    "keep the pool warm": None,  # it needs nothing but a connection
}
ALL_SET_UP = {
    "audit_seal_interval": 1,
    "public_url": "http://test",
    "smtp_url": SecretStr("smtp://127.0.0.1:9"),
    "mail_from": "tools@example.com",
    "webhook_url": ("https://hooks.invalid",),
    "webhook_secret": SecretStr("whsec_" + "a" * 32),
}
QUICK = {"every": 0.05, "longest_pause": 0.05}


@pytest.fixture
async def db(server: Server) -> AsyncIterator[Engine]:
    """The tables' engine, with a short patience, and no job of its own."""
    engine = piccolo_conf.DB
    before, engine.jobs = engine.jobs, Supervisor()
    await engine.start_connection_pool()
    engine.replica = Replica(engine, engine)  # it is none: there is something to watch
    yield engine
    for line in engine.replica._lines:
        line.hang_up()
    engine.replica = None
    await engine.close_connection_pool()
    engine.jobs = before


@pytest.fixture
async def superuser(server: Server) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(server.url(), server_settings={"application_name": "test"})
    yield connection
    await connection.close()


def all_jobs(db: Engine) -> dict[str, Job]:
    """Every job of the application by its name, in haste."""
    registry = piccolo_conf.APP_REGISTRY
    services = Services(db, piccolo_conf.SETTINGS.model_copy(update=ALL_SET_UP))
    found = [job for _, job in registry.all("jobs", services)]
    found += [job for _, job in message_jobs(services, registry)]
    found += [*db._jobs(), scheduler.job(services)]
    return {job.name: replace(job, at_once=True, **QUICK) for job in found}


async def test_every_job_is_tested_here(db: Engine) -> None:
    assert all_jobs(db).keys() == NEEDS.keys()


@asynccontextmanager
async def running(job: Job) -> AsyncIterator[tuple[JobStatus, list[EventDict]]]:
    supervisor = Supervisor([job])
    with capture_logs() as logs:
        supervisor.start()
        try:
            yield supervisor.statuses[0], logs
        finally:
            await supervisor.close()


async def until(condition: Callable[[], bool], meanwhile: Callable[[], Awaitable[object]]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await meanwhile()
            await asyncio.sleep(0.02)


async def nothing() -> None: ...


WAITING = """
    SELECT pg_stat_clear_snapshot();
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE application_name = 'groundwork' AND wait_event_type = 'Lock'
"""
ALL = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'groundwork'"


@asynccontextmanager
async def broken(superuser: asyncpg.Connection, table: str, fault: str) -> AsyncIterator[str]:
    """Let all statements about a table fail; yields what has to be repeated meanwhile."""
    if fault == "its statement times out":
        await superuser.execute("ALTER ROLE postgres SET statement_timeout = '50ms'")
        await superuser.execute(ALL)  # new connections have the new limit
    async with superuser.transaction():
        await superuser.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
        yield WAITING if fault == "its backend is terminated" else "SELECT 1"
    await superuser.execute("ALTER ROLE postgres RESET statement_timeout")
    await superuser.execute(ALL)


@pytest.mark.parametrize("fault", ["its backend is terminated", "its statement times out"])
@pytest.mark.parametrize(("name", "table"), [each for each in NEEDS.items() if each[1]])
async def test_a_database_that_fails_twenty_times(
    db: Engine, superuser: asyncpg.Connection, name: str, table: str, fault: str
) -> None:
    async with running(all_jobs(db)[name]) as (status, logs):
        await until(lambda: status.last_success_at is not None, nothing)
        before = status.last_success_at
        async with broken(superuser, table, fault) as sabotage:
            await until(
                lambda: status.failures_in_a_row >= TIMES, lambda: superuser.execute(sabotage)
            )
            check_logged(status, logs)
        await until(lambda: status.failures_in_a_row == 0, nothing)
        assert status.last_success_at is not None
        assert before is not None
        assert status.last_success_at > before
        figures = exposed(db, status)
    assert figures["groundwork_job_failures_total"] >= TIMES
    assert figures["groundwork_job_last_success_timestamp_seconds"] > before.timestamp()


def check_logged(status: JobStatus, logs: list[EventDict]) -> None:
    failed = [entry for entry in logs if entry["event"] == "job_failed"]
    assert failed
    numbers = [entry["in_a_row"] for entry in failed]  # the first, second, fourth, eighth ...
    assert all(number & (number - 1) == 0 for number in numbers), numbers
    assert {entry["job"] for entry in failed} == {status.job.name}


def exposed(db: Engine, status: JobStatus) -> dict[str, float]:
    """What /metrics says about a job."""
    registry = CollectorRegistry()
    registry.register(Figures(Verdict(connected=True), [OfProcess(db, [status])]))
    lines = generate_latest(registry).decode().splitlines()
    about = f'{{job="{status.job.name}"}} '
    return {
        line.partition("{")[0]: float(line.rpartition(" ")[2]) for line in lines if about in line
    }


async def test_the_pool_is_filled_again(
    db: Engine, server: Server, superuser: asyncpg.Connection
) -> None:
    """As by an administrator who lets nobody in and ends all sessions."""
    await superuser.execute("CREATE DATABASE elsewhere")
    admin = await asyncpg.connect(server.url("elsewhere"))
    try:
        async with running(all_jobs(db)["keep the pool warm"]) as (status, logs):
            await until(lambda: status.last_success_at is not None, nothing)
            before = status.last_success_at
            await admin.execute(f"ALTER DATABASE {server.database} ALLOW_CONNECTIONS false")
            await until(lambda: status.failures_in_a_row >= TIMES, lambda: admin.execute(ALL))
            check_logged(status, logs)
            await admin.execute(f"ALTER DATABASE {server.database} ALLOW_CONNECTIONS true")
            await until(lambda: status.failures_in_a_row == 0, nothing)
            assert status.last_success_at is not None
            assert before is not None
            assert status.last_success_at > before
            assert exposed(db, status)["groundwork_job_failures_total"] >= TIMES
    finally:
        await admin.execute(f"ALTER DATABASE {server.database} ALLOW_CONNECTIONS true")
        await admin.close()
        await superuser.execute("DROP DATABASE elsewhere")


@pytest.mark.parametrize(
    "error", [ValueError, SystemExit, KeyboardInterrupt, asyncio.CancelledError]
)
@pytest.mark.parametrize("name", NEEDS)
async def test_a_job_that_raises_anything_twenty_times(
    db: Engine, name: str, error: type[BaseException]
) -> None:
    job, left = all_jobs(db)[name], TIMES

    async def run() -> float | None:
        nonlocal left
        left -= 1
        if left >= 0:
            raise error
        return await job.run()

    async with running(replace(job, run=run)) as (status, logs):
        await until(lambda: status.last_success_at is not None, nothing)
        failed = [entry for entry in logs if entry["event"] == "job_failed"]
        assert [entry["in_a_row"] for entry in failed] == [1, 2, 4, 8, 16]
        assert {entry["log_level"] for entry in failed} == {"error"}
        assert exposed(db, status)["groundwork_job_failures_total"] == TIMES
