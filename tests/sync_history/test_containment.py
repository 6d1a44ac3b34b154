"""Whatever a source does, only its own run fails, and the history says why."""

from __future__ import annotations

import asyncio
import importlib
import re
import sys

import pytest

from home.database.engine import Engine
from sync_history import sources as registry
from sync_history.containment import create_task
from sync_history.sources import Run, SyncFailed, source
from tests.sync_history import misbehaving
from tests.sync_history.conftest import SERVICES, run_of
from tests.sync_history.misbehaving import FAILURES

pytestmark = pytest.mark.any_version


@pytest.fixture(autouse=True)
def registered_sources(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_registry", {})
    importlib.reload(misbehaving)


@pytest.mark.parametrize("name", FAILURES)
async def test_only_its_run_fails(db: Engine, name: str) -> None:
    run = await run_of(name)
    assert (run.status, run.needs_attention) == ("failed", True)
    assert run.error_message.startswith(FAILURES[name])
    assert len(run.error_message) <= 500
    assert 0 <= run.items_synced < 2**31

    @source("well-behaved")
    async def well_behaved(run: Run) -> None:
        run.synced()

    assert (await run_of("well-behaved")).status == "succeeded"


async def test_one_that_blocks_the_event_loop_is_marked(
    db: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sync_history.runner.BLOCKED_SECONDS", 3)
    run = await run_of("blocking")
    assert (run.status, run.needs_attention) == ("succeeded", True)
    assert re.match(r"All requests waited for \d+ seconds, because", run.attention_reason)


async def test_one_that_blocks_it_for_longer_than_its_lease_fails(
    db: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sync_history.runs.LEASE_SECONDS", 4)
    run = await run_of("blocking")
    assert (run.status, run.needs_attention) == ("failed", True)
    assert re.match(r"Its process stood still for \d+ seconds: the source", run.error_message)


async def test_tasks_that_are_cancelled_before_they_begin_leave_no_warning(db: Engine) -> None:
    begun = []

    async def child() -> None:
        begun.append(True)

    async def parent() -> None:
        task = asyncio.create_task(child())
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    await create_task(parent(), Run(SERVICES, 1, "x"), "x")
    assert not begun


async def test_tasks_outside_of_runs_are_as_they_were(db: Engine) -> None:
    async def nothing() -> None: ...

    await create_task(nothing(), Run(SERVICES, 1, "x"), "x")
    outside = asyncio.create_task(nothing())
    assert type(outside.get_coro()).__name__ == "coroutine"
    await outside


async def test_the_failure_names_the_exit_as_its_cause(db: Engine) -> None:
    async def leaving() -> None:
        sys.exit(3)

    with pytest.raises(SyncFailed) as failed:
        await create_task(leaving(), Run(SERVICES, 1, "x"), "x")
    assert isinstance(failed.value.__cause__, SystemExit)
