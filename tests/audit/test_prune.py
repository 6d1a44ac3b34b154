"""Old rows go, the proof stays."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from audit.digests import SealKeys
from audit.prune import NotAsSealed, Pruned, due, prune
from audit.record import record
from audit.seals import OtherKey, seal
from audit.tables import AuditLog, AuditSeal
from audit.verify import verify
from home.database.engine import Engine
from tests.audit.trails import KEYS, fill, seal_three_times, tamper

pytestmark = pytest.mark.any_version


async def when(row: int) -> datetime:
    """The moment of a row."""
    [at] = await AuditLog.select(AuditLog.created_at).where(AuditLog.id == row)
    found: datetime = at["created_at"]
    return found


async def ids() -> list[int]:
    return await AuditLog.select(AuditLog.id).order_by(AuditLog.id).output(as_list=True)


async def records() -> list[dict[str, Any]]:
    rows = AuditLog.select(AuditLog.details).where(AuditLog.action == "audit.prune")
    return [json.loads(row["details"]) for row in await rows.order_by(AuditLog.id)]


async def test_only_whole_seals_older_than_the_date_go(db: Engine) -> None:
    await seal_three_times(db)
    before = await when(20)  # the last row of seal 2 is not older than itself
    assert await due(db, before) == Pruned(1, 1, 1, 10, 10)
    assert await prune(db, before, KEYS) == Pruned(1, 1, 1, 10, 10)
    assert [id_ for id_ in await ids() if id_ <= 30] == [*range(12, 21), *range(22, 31)]
    assert await due(db, before) is None
    report = await verify(db, KEYS)
    assert (report.problem, report.pruned, report.verified) == (None, 10, 18)


async def test_what_is_not_sealed_stays(db: Engine) -> None:
    await seal_three_times(db)
    await fill(db, 32, 35)
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    assert await due(db, tomorrow) == Pruned(1, 3, 1, 30, 28)
    await prune(db, tomorrow, KEYS)
    assert (await ids())[:4] == [32, 33, 34, 35]
    report = await verify(db, KEYS)
    assert (report.problem, report.pruned, report.verified, report.unsealed) == (None, 28, 0, 5)


async def test_it_is_recorded_with_the_removal(db: Engine) -> None:
    await seal_three_times(db)
    before = await when(25)
    await prune(db, before, KEYS)
    removed = {"first_seal": 1, "last_seal": 2, "first_id": 1, "last_id": 20, "rows": 19}
    assert await records() == [{**removed, "before": before.isoformat()}]


async def test_seals_stay_marked_and_without_leaves(db: Engine) -> None:
    await seal_three_times(db)
    digests = [seal["digest"] for seal in await AuditSeal.select().order_by(AuditSeal.id)]
    await prune(db, await when(15), KEYS)
    seals = await AuditSeal.select().order_by(AuditSeal.id)
    assert [seal["digest"] for seal in seals] == digests
    assert [seal["leaves"] is None for seal in seals] == [True, False, False]
    assert [seal["pruned_at"] is None for seal in seals] == [False, True, True]


async def test_a_later_prune_may_remove_the_record_of_an_earlier_one(db: Engine) -> None:
    await seal_three_times(db)
    await prune(db, await when(15), KEYS)
    await seal(db, KEYS)  # with the record of pruning
    await prune(db, datetime.now(UTC) + timedelta(days=1), KEYS)
    assert [record["last_seal"] for record in await records()] == [4]
    report = await verify(db, KEYS)
    assert (report.problem, report.pruned) == (None, 29)
    await seal(db, KEYS)
    assert (await verify(db, KEYS)).verified == 1


async def test_many_seals_go_in_steps_each_with_its_record(db: Engine) -> None:
    for row in range(1, 26):
        await fill(db, row, row)
        await seal(db, KEYS)
    steps: list[int] = []
    await prune(db, await when(25), KEYS, steps.append)
    assert steps == [1] * 25 + [10, 10, 4]
    assert [record["last_seal"] for record in await records()] == [10, 20, 24]
    assert (await verify(db, KEYS)).problem is None


async def test_an_interrupted_prune_leaves_a_trail_that_verifies(db: Engine) -> None:
    for row in range(1, 26):
        await fill(db, row, row)
        await seal(db, KEYS)

    def interrupt(rows: int) -> None:
        if rows == 10:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        await prune(db, await when(25), KEYS, interrupt)
    report = await verify(db, KEYS)
    assert (report.problem, report.pruned, report.verified) == (None, 10, 15)


async def test_what_is_not_as_it_was_sealed_is_not_removed(db: Engine) -> None:
    await seal_three_times(db)
    before = await when(25)
    await tamper(db, "UPDATE audit_logs SET actor = 'x' WHERE id = 3")
    with pytest.raises(NotAsSealed, match="nothing was removed: row 3 was altered"):
        await prune(db, before, KEYS)
    with pytest.raises(OtherKey):
        await prune(db, before, SealKeys(None))
    assert len(await ids()) == 28


async def test_two_at_once_remove_and_record_once(db: Engine) -> None:
    await seal_three_times(db)
    before = await when(25)
    done = await asyncio.gather(
        *[prune(db, before, KEYS) for _ in range(3)], return_exceptions=True
    )
    assert all(each is None or isinstance(each, Pruned | NotAsSealed) for each in done)
    assert [record["last_seal"] for record in await records()] == [2]
    assert (await verify(db, KEYS)).problem is None


async def test_verifying_while_rows_are_pruned_sees_one_moment(db: Engine) -> None:
    for row in range(1, 42):
        await fill(db, row, row)
        await seal(db, KEYS)
    pruning = asyncio.create_task(prune(db, await when(41), KEYS))
    pruned = set()
    while not pruning.done():
        report = await verify(db, KEYS)
        pruned.add(report.pruned)
        assert (report.problem, report.pruned + report.verified) == (None, 41)
    assert pruned  # at least once, on most machines several times in between


async def test_rows_slipped_in_where_others_were_pruned_are_named(db: Engine) -> None:
    await seal_three_times(db)
    await prune(db, datetime.now(UTC) + timedelta(days=1), KEYS)
    await tamper(db, "INSERT INTO audit_logs (id, action) VALUES (7, 'forged')")
    problem = (await verify(db, KEYS)).problem
    assert problem is not None
    assert (problem.kind, problem.row) == ("inserted", 7)


async def test_pruning_by_hand_needs_a_record(db: Engine) -> None:
    await seal_three_times(db)
    await tamper(db, "UPDATE audit_seals SET pruned_at = now(), leaves = NULL WHERE id <= 2")
    await tamper(db, "DELETE FROM audit_logs WHERE id <= 20")
    await record(db, "audit.prune", details={"first_seal": 1, "last_seal": 2})
    problem = (await verify(db, KEYS)).problem
    assert problem is not None
    assert (problem.kind, problem.seal) == ("pruned_unsigned", 1)
