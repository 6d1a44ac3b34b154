"""How runs begin, go on and end."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable

import asyncpg
import pytest

from audit.context import Actor, acting_as
from audit.tables import AuditLog
from home.database.engine import Engine
from home.tables import User
from sync_history import runner, runs
from sync_history.sources import Function, Run, SyncFailed
from sync_history.tables import Status, SyncRun
from tests.sync_history.conftest import SERVICES, run_of, stored, trail_of, until

pytestmark = pytest.mark.any_version

Register = Callable[[Function], None]


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
    ("total", "failed", "status", "message"),
    [
        (3, 1, "partial", "1 of 3 items failed, see the error details."),
        (None, 1, "partial", "1 items failed, see the error details."),
        (1, 1, "failed", "The only item failed, line 0: is empty"),
        (2, 2, "failed", "All 2 items failed. The first, line 0: is empty"),
    ],
)
async def test_of_a_dry_run_what_did_not_fail_would_be_done(
    registered: Register, total: int | None, failed: int, status: str, message: str
) -> None:
    async def crm(run: Run) -> None:
        if total is not None:
            run.total(total)
        for number in range(failed):
            run.failed(f"line {number}", "is empty")

    registered(crm)
    run = await run_of("crm", dry_run=True)
    assert (run.status, run.error_message) == (status, message)


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
    started = await runs.start(SERVICES.db, "crm")
    runner.launch(SERVICES, started)
    async with asyncio.timeout(10):
        while not (run := await stored(started.id)).items_synced:
            await asyncio.sleep(0.05)
    assert (run.status, run.items_total, run.items_failed) == ("running", 10, 1)
    assert json.loads(run.error_details)["failures"][0]["item"] == "line 5"
    await runs.cancel(SERVICES.db, run.id)
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
        await db.fetch(change, after)
        return
    with pytest.raises(asyncpg.CheckViolationError) as caught:
        await db.fetch(change, after)
    name = "sync_history_over" if runs.is_over(run) else "sync_history_transition"
    assert caught.value.constraint_name == name


async def test_a_mark_can_be_taken_off_a_run_that_is_over(db: Engine) -> None:
    await SyncRun(source="crm", status=Status.FAILED, needs_attention=True).save()
    await db.fetch("UPDATE sync_history SET needs_attention = false")
    assert not (await stored((await SyncRun.objects())[0].id)).needs_attention
