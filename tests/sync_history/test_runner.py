"""How runs begin, go on and end."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import asyncpg
import pytest

from audit.context import Actor, acting_as
from audit.tables import AuditLog
from home.engine import Engine
from home.tables import User
from sync_history import keeper, runner, runs
from sync_history.runs import AlreadyActive, NotActive, UnknownSource
from sync_history.sources import Function, Run, SyncFailed
from sync_history.tables import Status, SyncRun
from tests.sync_history.conftest import run_of, stored, until

pytestmark = pytest.mark.any_version

Register = Callable[[Function], None]


async def trail_of(id: int) -> list[tuple[str, str, Any]]:
    rows = await AuditLog.select().where(AuditLog.resource_id == str(id)).order_by(AuditLog.id)
    return [
        (row["action"], row["actor"], json.loads(row["details"])["after"].get("status"))
        for row in rows
        if row["resource"] == "sync_history"
    ]


async def test_a_run_that_succeeds(registered: Register) -> None:
    async def crm(run: Run) -> None:
        run.total(3)
        run.synced(3)
        run.note("all of them")

    registered(crm)
    with acting_as(Actor("cli:ada")):
        run = await run_of("crm")
    assert (run.status, run.items_total, run.items_synced, run.items_failed) == (
        "succeeded", 3, 3, 0,
    )  # fmt: skip
    assert run.started_at <= run.completed_at
    milliseconds = (run.completed_at - run.started_at).total_seconds() * 1000
    assert abs(run.duration_ms - milliseconds) < 1
    assert run.error_message is None
    assert not run.needs_attention
    assert json.loads(run.error_details) == {"notes": ["all of them"]}
    assert await trail_of(run.id) == [
        ("sync_history.insert", "cli:ada", "pending"),
        ("sync_history.update", "cli:ada", "running"),
        ("sync_history.update", "cli:ada", "succeeded"),
    ]


async def test_what_a_source_changes_is_the_doing_of_who_started_it(
    registered: Register, administrator: User, member: User
) -> None:
    async def crm(run: Run) -> None:
        await User.update({User.organization: "ACME"}).where(User.id == member.id)

    registered(crm)
    with acting_as(Actor("ada@example.com", administrator.id)):
        run = await run_of("crm")
    assert (run.status, run.triggered_by) == ("succeeded", administrator.id)
    change = AuditLog.select().where(AuditLog.action == "users.update")
    assert [row["actor"] for row in await change] == ["ada@example.com"]


async def test_some_failed(registered: Register) -> None:
    async def crm(run: Run) -> None:
        run.synced(99)
        run.failed("line 7", "has no address")

    registered(crm)
    run = await run_of("crm")
    assert (run.status, run.items_failed, run.needs_attention) == ("partial", 1, False)
    assert run.error_message == "1 of 100 items failed, see the error details."
    failures = [{"item": "line 7", "error": "has no address"}]
    assert json.loads(run.error_details) == {"failures": failures}


async def test_all_failed(registered: Register) -> None:
    async def crm(run: Run) -> None:
        run.failed("line 1", "is empty")
        run.failed("line 2", "is empty")

    registered(crm)
    run = await run_of("crm")
    assert (run.status, run.needs_attention) == ("failed", True)
    assert run.error_message == "All 2 items failed. The first, line 1: is empty"


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (SyncFailed("Closed on Saturdays."), "Closed on Saturdays."),
        (ZeroDivisionError("division by zero"), "ZeroDivisionError: division by zero"),
        (asyncio.CancelledError(), "The source cancelled itself."),
        (SystemExit(3), "The source tried to end the whole process."),
        (RuntimeError("no \x00 " + "x" * 5_000), None),
    ],
)
async def test_a_source_that_raises_fails(
    registered: Register, error: BaseException, message: str | None
) -> None:
    async def crm(run: Run) -> None:
        run.synced(5)
        raise error

    registered(crm)
    run = await run_of("crm")
    assert (run.status, run.items_synced, run.needs_attention) == ("failed", 5, True)
    assert len(run.error_message) <= 500
    assert run.error_message == message or message is None


async def test_no_secret_is_stored(registered: Register, db: Engine) -> None:
    secret = "postgresql://ada:canary-c4n4ry@db/x"

    async def crm(run: Run) -> None:
        run.failed(f"item {secret}", ValueError(secret))
        run.note(secret)
        raise RuntimeError(secret)

    registered(crm)
    run = await run_of("crm")
    assert "***" in run.error_message
    assert "c4n4ry" not in repr(run.to_dict())
    assert "c4n4ry" not in repr(await AuditLog.select())


async def test_progress_is_stored_while_it_runs_and_survives_the_rollback(
    registered: Register, db: Engine, member: User
) -> None:
    async def crm(run: Run) -> None:
        async with db.transaction():
            await User.update({User.organization: "ACME"}).where(User.id == member.id)
            run.total(10)
            run.synced(4)
            run.failed("line 5", "is empty")
            await asyncio.sleep(60)

    registered(crm)
    started = await runs.start("crm")
    runner.launch(started)
    async with asyncio.timeout(10):
        while not (run := await stored(started.id)).items_synced:
            await asyncio.sleep(0.05)
    assert (run.status, run.items_total, run.items_failed) == ("running", 10, 1)
    assert json.loads(run.error_details)["failures"][0]["item"] == "line 5"
    await runs.cancel(run.id)
    run = await until(run.id, "cancelled")
    assert (run.items_synced, run.items_failed) == (4, 1)
    assert await User.count().where(User.organization == "ACME") == 0


async def test_progress_leaves_no_record(registered: Register) -> None:
    async def crm(run: Run) -> None:
        for _ in range(24):
            run.synced()
            run.failed("x", "y")
            await asyncio.sleep(0.1)

    registered(crm)
    run = await run_of("crm")
    assert [status for _, _, status in await trail_of(run.id)] == ["pending", "running", "partial"]


async def test_cancelling_ends_a_run_within_two_seconds(
    registered: Register, administrator: User
) -> None:
    async def crm(run: Run) -> None:
        await asyncio.sleep(60)

    registered(crm)
    started = await runs.start("crm")
    runner.launch(started)
    await until(started.id, "running")
    with acting_as(Actor("ada@example.com", administrator.id)):
        await runs.cancel(started.id)
    await until(started.id, "cancelled")
    run = await stored(started.id)
    assert (run.completed_at - run.cancel_requested_at).total_seconds() < 2
    assert run.cancel_requested_by == administrator.id
    assert not run.needs_attention
    with pytest.raises(NotActive, match="is over: cancelled"):
        await runs.cancel(run.id)


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
    started = await runs.start("crm")
    execution = runner.launch(started)
    await until(started.id, "running")
    await runs.cancel(started.id)
    run = await until(started.id, "cancelled")
    assert (run.completed_at - run.cancel_requested_at).total_seconds() < 2.2
    assert seen == [True]
    listens.set()
    await execution.task


async def test_a_pending_run_is_cancelled_at_once_and_never_begins(registered: Register) -> None:
    async def crm(run: Run) -> None:
        raise AssertionError

    registered(crm)
    started = await runs.start("crm")
    assert (await runs.cancel(started.id)).status == "cancelled"
    await runner.launch(started).task
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
    attempts = await asyncio.gather(*[runs.start("crm") for _ in range(20)], return_exceptions=True)
    [started] = [each for each in attempts if not isinstance(each, BaseException)]
    refused = [each for each in attempts if isinstance(each, BaseException)]
    assert {type(error) for error in refused} == {AlreadyActive}
    execution = runner.launch(started)
    await until(started.id, "running")
    with pytest.raises(AlreadyActive, match=f"Run {started.id} of crm is not over yet"):
        await runs.start("crm")
    assert (await run_of("directory")).status == "succeeded"
    gate.set()
    await execution.task
    assert (await run_of("crm")).status == "succeeded"


async def test_of_many_who_claim_a_run_one_gets_it(registered: Register, db: Engine) -> None:
    async def crm(run: Run) -> None: ...

    registered(crm)
    started = await runs.start("crm")
    claims = [keeper.Keeper(db, started.id) for _ in range(8)]
    rows = await asyncio.gather(*[each.claim() for each in claims])
    assert sum(row is not None for row in rows) == 1
    for each in claims:
        each.close()


async def test_an_unknown_source_is_refused(registered: Register) -> None:
    with pytest.raises(UnknownSource, match="SYNC_SOURCES names no module"):
        await runs.start("crm")
    assert await SyncRun.count() == 0


async def test_the_application_stops_in_mid_run(registered: Register) -> None:
    async def crm(run: Run) -> None:
        run.synced(7)
        await asyncio.sleep(60)

    registered(crm)
    started = await runs.start("crm")
    runner.launch(started)
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
    started = await runs.start("crm")
    execution = runner.launch(started)
    run = await until(started.id, "running")
    await db.run_sql(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE application_name = 'groundwork sync' AND datname = current_database()"
    )
    async with asyncio.timeout(10):
        while (await stored(run.id)).heartbeat_at <= run.heartbeat_at:
            await asyncio.sleep(0.05)
    assert await runs.reap() == []
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
        started = await runs.start("crm")
        execution = runner.launch(started)
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
    started = await runs.start("crm")
    execution = runner.launch(started)
    await until(started.id, "running")
    monkeypatch.setattr(runs, "LEASE_SECONDS", 0.1)
    await asyncio.sleep(0.2)
    assert await runs.reap() == [(started.id, "crm")]
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
    started = await runs.start("crm")
    claim = keeper.Keeper(db, started.id)
    assert await claim.claim()
    monkeypatch.setattr(runs, "LOCKLESS_SECONDS", 0.2)
    await asyncio.sleep(0.3)
    assert await runs.reap() == [], "its process is silent, but holds its lock"
    claim.close()
    locks = "SELECT FROM pg_locks WHERE locktype = 'advisory' AND classid = $1"
    async with asyncio.timeout(5):
        while await db.run_sql(locks, runs.RUNNING):
            await asyncio.sleep(0.02)
    monkeypatch.setattr(runs, "LOCKLESS_SECONDS", 20)
    assert await runs.reap() == [], "it has some time to come back"
    monkeypatch.setattr(runs, "LOCKLESS_SECONDS", 0.2)
    assert await runs.reap() == [(started.id, "crm")]


async def test_a_pending_run_that_nobody_began_is_closed(registered: Register, db: Engine) -> None:
    async def crm(run: Run) -> None: ...

    registered(crm)
    await db.run_sql(
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
        run.synced((await db.run_sql(locks, runs.RUNNING))[0]["count"])

    registered(crm)
    run = await run_of("crm")
    assert (run.status, run.items_synced, run.holds_lock) == ("succeeded", 0, False)


@pytest.mark.parametrize(
    ("earlier", "synced", "failed", "reason"),
    [
        (
            [1000, 900, 1100],
            0,
            0,
            "It synced nothing; the last 3 runs synced 1000 items as a rule.",
        ),
        ([5, 5], 0, 0, None),
        ([], 0, 0, None),
        ([1000], 1, 0, None),
        ([], 90, 10, "10 of 100 items failed, see the error details."),
        ([], 91, 9, None),
    ],
)
async def test_what_a_person_should_look_at_is_marked(
    registered: Register, earlier: list[int], synced: int, failed: int, reason: str | None
) -> None:
    async def crm(run: Run) -> None:
        run.synced(synced)
        for number in range(failed):
            run.failed(str(number), "x")

    registered(crm)
    for items in earlier:
        await SyncRun(source="crm", status=Status.SUCCEEDED, items_synced=items).save()
    await SyncRun(source="other", status=Status.SUCCEEDED, items_synced=5_000).save()
    run = await run_of("crm")
    assert (run.needs_attention, run.attention_reason) == (reason is not None, reason)
    assert (await run_of("crm", dry_run=True)).needs_attention == (failed == 10)


TRANSITIONS = {
    ("pending", "running"), ("pending", "failed"), ("pending", "cancelled"),
    ("running", "succeeded"), ("running", "partial"), ("running", "failed"),
    ("running", "cancelled"),
}  # fmt: skip


@pytest.mark.parametrize("before", list(Status))
@pytest.mark.parametrize("after", list(Status))
async def test_the_database_keeps_the_order_of_the_states(
    db: Engine, before: Status, after: Status
) -> None:
    run = SyncRun(source="crm", status=before)
    await run.save()
    change = "UPDATE sync_history SET status = $1, items_synced = 1"
    if (before, after) in TRANSITIONS or (before == after and not runs.is_over(run)):
        await db.run_sql(change, after)
        return
    with pytest.raises(asyncpg.CheckViolationError) as caught:
        await db.run_sql(change, after)
    name = "sync_history_over" if runs.is_over(run) else "sync_history_transition"
    assert caught.value.constraint_name == name


async def test_a_mark_can_be_taken_off_a_run_that_is_over(db: Engine) -> None:
    await SyncRun(source="crm", status=Status.FAILED, needs_attention=True).save()
    await db.run_sql("UPDATE sync_history SET needs_attention = false")
    assert not (await stored((await SyncRun.objects())[0].id)).needs_attention
