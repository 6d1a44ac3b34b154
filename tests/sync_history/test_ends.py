"""Runs that are cancelled, stopped, cut off or dead: each comes to an end, and only one goes on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from structlog.testing import capture_logs

from audit.context import Actor, acting_as
from home.database.engine import Engine
from home.tables import User
from sync_history import runner, runs
from sync_history.outcome import STOPPED, Outcome
from sync_history.reporting import Progress
from sync_history.run_lease import LeaseLost, RunLease
from sync_history.runs import AlreadyActive, NotActive, UnknownSource
from sync_history.sources import Function, Run
from sync_history.tables import Status, SyncRun
from tests.sync_history.conftest import SERVICES, run_of, stored, trail_of, until

pytestmark = pytest.mark.any_version

Register = Callable[[Function], None]


async def test_cancelling_ends_a_run_within_two_seconds(
    registered: Register, administrator: User
) -> None:
    async def crm(run: Run) -> None:
        await asyncio.sleep(60)

    registered(crm)
    started = await runs.start(SERVICES.db, "crm")
    runner.launch(SERVICES, started)
    await until(started.id, "running")
    with acting_as(Actor("ada@example.com", administrator.id)):
        await runs.cancel(SERVICES.db, started.id)
    await until(started.id, "cancelled")
    run = await stored(started.id)
    assert (run.completed_at - run.cancel_requested_at).total_seconds() < 2
    assert run.cancel_requested_by == administrator.id
    assert not run.needs_attention
    with pytest.raises(NotActive, match="is over: cancelled"):
        await runs.cancel(SERVICES.db, run.id)


async def test_a_source_that_does_not_listen_is_cancelled_all_the_same(
    registered: Register,
) -> None:
    listens = asyncio.Event()
    seen: list[bool] = []

    async def crm(run: Run) -> None:
        while not listens.is_set():
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                seen.append(run.cancelled)
                await listens.wait()

    registered(crm)
    started = await runs.start(SERVICES.db, "crm")
    execution = runner.launch(SERVICES, started)
    await until(started.id, "running")
    await runs.cancel(SERVICES.db, started.id)
    run = await until(started.id, "cancelled")
    assert (run.completed_at - run.cancel_requested_at).total_seconds() < 2.2
    assert seen == [True]
    listens.set()
    await execution.task


async def test_a_pending_run_is_cancelled_at_once_and_never_begins(registered: Register) -> None:
    async def crm(run: Run) -> None:
        raise AssertionError

    registered(crm)
    started = await runs.start(SERVICES.db, "crm")
    assert (await runs.cancel(SERVICES.db, started.id)).status == "cancelled"
    await runner.launch(SERVICES, started).task
    run = await stored(started.id)
    assert run.status == "cancelled"
    assert not run.started_at


async def test_one_run_at_a_time_for_each_source(registered: Register) -> None:
    gate = asyncio.Event()

    async def crm(run: Run) -> None:
        await gate.wait()

    async def directory(run: Run) -> None: ...

    registered(crm)
    registered(directory)
    attempts = await asyncio.gather(
        *[runs.start(SERVICES.db, "crm") for _ in range(20)], return_exceptions=True
    )
    [started] = [each for each in attempts if not isinstance(each, BaseException)]
    refused = [each for each in attempts if isinstance(each, BaseException)]
    assert {type(error) for error in refused} == {AlreadyActive}
    execution = runner.launch(SERVICES, started)
    await until(started.id, "running")
    with pytest.raises(AlreadyActive, match=f"Run {started.id} of crm is not over yet"):
        await runs.start(SERVICES.db, "crm")
    assert (await run_of("directory")).status == "succeeded"
    gate.set()
    await execution.task
    assert (await run_of("crm")).status == "succeeded"


async def test_of_many_who_claim_a_run_one_gets_it(registered: Register, db: Engine) -> None:
    async def crm(run: Run) -> None: ...

    registered(crm)
    started = await runs.start(SERVICES.db, "crm")
    claims = [RunLease(db, started.id) for _ in range(8)]
    rows = await asyncio.gather(*[each.claim() for each in claims])
    assert sum(row is not None for row in rows) == 1
    for each in claims:
        each.close()


async def test_an_unknown_source_is_refused(registered: Register) -> None:
    with pytest.raises(UnknownSource, match="SYNC_SOURCES names no module"):
        await runs.start(SERVICES.db, "crm")
    assert await SyncRun.count() == 0


async def test_the_application_stops_in_mid_run(registered: Register) -> None:
    async def crm(run: Run) -> None:
        run.synced(7)
        await asyncio.sleep(60)

    registered(crm)
    started = await runs.start(SERVICES.db, "crm")
    runner.launch(SERVICES, started)
    await until(started.id, "running")
    async with asyncio.timeout(4):
        await runner.close()
    run = await stored(started.id)
    assert (run.status, run.items_synced, run.needs_attention) == ("failed", 7, True)
    assert run.error_message.startswith("The application was stopped.")


async def test_it_goes_on_when_its_connection_is_lost(registered: Register, db: Engine) -> None:
    gate = asyncio.Event()

    async def crm(run: Run) -> None:
        await gate.wait()
        run.synced()

    registered(crm)
    started = await runs.start(SERVICES.db, "crm")
    execution = runner.launch(SERVICES, started)
    run = await until(started.id, "running")
    await db.fetch(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE application_name = 'groundwork sync' AND datname = current_database()"
    )
    async with asyncio.timeout(10):
        while (await stored(run.id)).heartbeat_at <= run.heartbeat_at:
            await asyncio.sleep(0.05)
    assert await runs.reap(SERVICES.db) == []
    gate.set()
    await execution.task
    assert (await stored(run.id)).status == "succeeded"


async def test_who_was_deleted_meanwhile_keeps_no_run_open(
    registered: Register, member: User
) -> None:
    gate = asyncio.Event()

    async def crm(run: Run) -> None:
        await gate.wait()

    registered(crm)
    with acting_as(Actor("mel@example.com", member.id)):
        started = await runs.start(SERVICES.db, "crm")
        execution = runner.launch(SERVICES, started)
    await until(started.id, "running")
    await User.delete().where(User.id == member.id)
    gate.set()
    await execution.task
    run = await stored(started.id)
    assert (run.status, run.triggered_by) == ("succeeded", None)
    assert (await trail_of(run.id))[-1] == (
        "sync_history.update", "mel@example.com", "succeeded",
    )  # fmt: skip


async def test_a_dead_run_is_closed_and_its_zombie_is_fenced(
    registered: Register, db: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The beat comes too late, as after SIGSTOP; tests/faults/test_sync.py does it for real."""
    gate = asyncio.Event()

    async def crm(run: Run) -> None:
        run.synced(5)
        await gate.wait()
        run.synced(500)

    registered(crm)
    monkeypatch.setattr(runner, "BEAT_SECONDS", 3_600)
    started = await runs.start(SERVICES.db, "crm")
    execution = runner.launch(SERVICES, started)
    await until(started.id, "running")
    monkeypatch.setattr(runs, "LEASE_SECONDS", 0.1)
    await asyncio.sleep(0.2)
    assert await runs.reap(SERVICES.db) == [(started.id, "crm")]
    gate.set()
    await execution.task
    run = await stored(started.id)
    assert (run.status, run.items_synced, execution.outcome) == ("failed", 0, None)
    assert run.error_message.startswith("Its process is gone.")
    assert (await trail_of(run.id))[-1] == ("sync_history.update", "system:sync", "failed")


async def test_a_process_that_was_silent_too_long_gives_up_by_itself(
    registered: Register, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before its next beat: by then somebody else may have taken over."""
    seen: list[bool] = []

    async def crm(run: Run) -> None:
        seen.append(run.cancelled)
        await asyncio.sleep(0.5)
        seen.append(run.cancelled)
        await asyncio.sleep(60)

    registered(crm)
    monkeypatch.setattr(runs, "LEASE_SECONDS", 0.3)
    run = await run_of("crm")
    assert seen == [False, True]
    assert (run.status, run.needs_attention) == ("failed", True)
    assert run.error_message.startswith("Its process had no contact with the database")


@pytest.mark.direct
async def test_a_free_lock_proves_death_sooner(
    registered: Register, db: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def crm(run: Run) -> None: ...

    registered(crm)
    started = await runs.start(SERVICES.db, "crm")
    claim = RunLease(db, started.id)
    assert await claim.claim()
    monkeypatch.setattr(runs, "LOCKLESS_SECONDS", 0.2)
    await asyncio.sleep(0.3)
    assert await runs.reap(SERVICES.db) == [], "its process is silent, but holds its lock"
    claim.close()
    locks = "SELECT FROM pg_locks WHERE locktype = 'advisory' AND classid = $1"
    async with asyncio.timeout(5):
        while await db.fetch(locks, runs.RUNNING):
            await asyncio.sleep(0.02)
    monkeypatch.setattr(runs, "LOCKLESS_SECONDS", 20)
    assert await runs.reap(SERVICES.db) == [], "it has some time to come back"
    monkeypatch.setattr(runs, "LOCKLESS_SECONDS", 0.2)
    assert await runs.reap(SERVICES.db) == [(started.id, "crm")]


async def test_a_pending_run_that_nobody_began_is_closed(registered: Register, db: Engine) -> None:
    async def crm(run: Run) -> None: ...

    registered(crm)
    await db.fetch(
        "INSERT INTO sync_history (source, created_at) VALUES ('crm', now() - interval '1 minute')"
    )
    run = await run_of("crm")
    assert run.status == "succeeded"
    [old] = await SyncRun.objects().where(SyncRun.id != run.id)
    assert (old.status, old.needs_attention) == ("failed", True)
    assert old.error_message == "No process began with it. Start it again."


async def test_behind_a_pooler_no_lock_is_taken(
    registered: Register, db: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(db, "settings", db.settings.model_copy(update={"db_pooler": "transaction"}))

    async def crm(run: Run) -> None:
        locks = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND classid = $1"
        run.synced((await db.fetch(locks, runs.RUNNING))[0]["count"])

    registered(crm)
    run = await run_of("crm")
    assert (run.status, run.items_synced, run.holds_lock) == ("succeeded", 0, False)


# A backend that ends itself at the first of these updates: at once, or while it commits.
KILL = (
    "CREATE SEQUENCE ends",
    """
    CREATE FUNCTION end_backend() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF nextval('ends') = 1 THEN
            PERFORM pg_terminate_backend(pg_backend_pid());
            PERFORM pg_sleep(10);
        END IF;
        RETURN NULL;
    END $$
    """,
    """
    CREATE CONSTRAINT TRIGGER end_backend AFTER UPDATE ON sync_history {when}
        FOR EACH ROW WHEN (NEW.status = 'succeeded') EXECUTE FUNCTION end_backend()
    """,
)


@pytest.mark.parametrize("when", ["NOT DEFERRABLE", "DEFERRABLE INITIALLY DEFERRED"])
async def test_a_success_is_one_also_when_its_backend_dies_while_the_end_is_written(
    registered: Register, db: Engine, when: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def crm(run: Run) -> None:
        run.synced(3)

    registered(crm)
    monkeypatch.setattr(runner, "BEAT_SECONDS", 0.05)
    for statement in KILL:
        await db.execute(statement.format(when=when))
    for _ in range(10):
        await db.execute("SELECT setval('ends', 1, false)")
        run = await run_of("crm")
        assert (run.status, run.items_synced) == ("succeeded", 3), run.error_message
        assert await db.fetchval("SELECT last_value FROM ends") > 1, "no backend was ended"
    assert await SyncRun.count().where(SyncRun.status == "succeeded") == 10


async def test_an_end_whose_answer_was_lost_is_not_written_twice(
    registered: Register, db: Engine
) -> None:
    async def crm(run: Run) -> None: ...

    registered(crm)
    started = await runs.start(db, "crm")
    lease = RunLease(db, started.id)
    assert await lease.claim()
    outcome = Outcome(Status.FAILED, "Closed on Saturdays.", "It failed.")
    await lease.end(Progress(3, 2, 1), outcome)
    written = await stored(started.id)
    await lease.end(Progress(3, 2, 1), outcome)
    assert (await stored(started.id)).to_dict() == written.to_dict()
    with pytest.raises(LeaseLost):
        await lease.end(Progress(), STOPPED)
    lease.close()


@pytest.mark.parametrize("status", ["pending", "running"])
async def test_after_a_clock_was_set_back_a_dead_run_is_closed_all_the_same(
    registered: Register, db: Engine, monkeypatch: pytest.MonkeyPatch, status: str
) -> None:
    async def crm(run: Run) -> None: ...

    registered(crm)
    await db.execute(
        "INSERT INTO sync_history (source, status, heartbeat_at, created_at, holds_lock)"
        " SELECT 'crm', $1::text, CASE $1::text WHEN 'running' THEN ahead END, ahead, true"
        " FROM (SELECT now() + interval '10 years' AS ahead) AS clock",
        status,
    )
    [dead] = await SyncRun.objects()
    with capture_logs() as logs:
        assert await runs.reap(db) == []
    assert [entry["event"] for entry in logs] == ["heartbeat_in_the_future"]
    await runs.cancel(db, dead.id)
    monkeypatch.setattr(runs, "LEASE_SECONDS", 0.2)
    await asyncio.sleep(0.3)
    await runs.reap(db)
    assert (await stored(dead.id)).status in ("failed", "cancelled")
    assert (await run_of("crm")).status == "succeeded"


async def test_after_a_clock_was_set_back_a_live_run_goes_on(
    registered: Register, db: Engine
) -> None:
    gate = asyncio.Event()

    async def crm(run: Run) -> None:
        await gate.wait()

    registered(crm)
    started = await runs.start(db, "crm")
    execution = runner.launch(SERVICES, started)
    await until(started.id, "running")
    await db.execute("UPDATE sync_history SET heartbeat_at = now() + interval '10 years'")
    assert await runs.reap(db) == []
    gate.set()
    await execution.task
    assert (await stored(started.id)).status == "succeeded"
