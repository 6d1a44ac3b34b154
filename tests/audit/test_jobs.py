"""Jobs beside the requests: none of them ends, whatever it does, and none ends the process."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest
from structlog.testing import capture_logs

from audit.jobs import Job, JobStatus, Supervisor

TIMES = 20
Attempt = Callable[[], Coroutine[Any, Any, Any]]


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


async def cancels_itself() -> None:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    await asyncio.sleep(0)


async def cancels_itself_and_goes_on() -> float:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    return math.nan


async def loses_a_child() -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(raises(ValueError("child"))())


def raises(error: BaseException) -> Attempt:
    async def run() -> None:
        raise error

    return run


def gives(pause: Any) -> Attempt:
    async def run() -> Any:
        return pause

    return run


@asynccontextmanager
async def supervised(job: Job) -> AsyncIterator[JobStatus]:
    supervisor = Supervisor([job])
    supervisor.start()
    yield supervisor.statuses[0]
    await supervisor.close()


def failing(attempt: Attempt) -> Job:
    """A job that fails twenty times in a row, then succeeds."""
    left = TIMES

    async def run() -> float | None:
        nonlocal left
        left -= 1
        return cast("float | None", await attempt()) if left >= 0 else None

    return Job("work", run, 0.01, at_once=True, longest_pause=0.01)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.005)


@pytest.mark.parametrize(
    "attempt",
    [
        raises(ValueError("wrong")),
        raises(Unspeakable()),
        raises(SystemExit(3)),
        raises(KeyboardInterrupt()),
        raises(GeneratorExit()),
        raises(asyncio.CancelledError()),
        raises(BaseExceptionGroup("both", [SystemExit(1), ValueError("x")])),
        cancels_itself,
        cancels_itself_and_goes_on,
        loses_a_child,
        gives(math.nan),
        gives(-1),
        gives("soon"),
    ],
)
async def test_what_fails_twenty_times_succeeds_again(attempt: Attempt) -> None:
    with capture_logs() as logs:
        async with supervised(failing(attempt)) as status:
            await until(lambda: status.failures >= TIMES)
            assert status.last_success_at is None
            await until(lambda: status.last_success_at is not None)
    assert (status.failures, status.failures_in_a_row, status.last_error) == (TIMES, 0, None)
    failed = [entry["in_a_row"] for entry in logs if entry["event"] == "job_failed"]
    assert failed == [1, 2, 4, 8, 16], "a flood of failures does not fill the log"
    assert [entry["failures"] for entry in logs if entry["event"] == "job_recovered"] == [TIMES]


async def test_the_last_success_moves_on() -> None:
    async with supervised(Job("work", gives(None), 0.01, at_once=True)) as status:
        await until(lambda: status.last_success_at is not None)
        first = status.last_success_at
        await until(lambda: status.last_success_at != first)


async def test_a_clock_that_was_set_back_hides_no_late_job(monkeypatch: pytest.MonkeyPatch) -> None:
    status = JobStatus(Job("work", gives(None), 10, longest_pause=10))
    status.succeeded()
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + 29)
    assert not status.is_late
    monkeypatch.setattr(time, "monotonic", lambda: now + 31)
    assert status.is_late


async def test_closing_does_not_wait_for_a_job_that_swallows_its_cancellation(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("audit.jobs.CLOSE_SECONDS", 0.1)
    ended = asyncio.Event()

    async def run() -> None:
        while not ended.is_set():
            try:
                await ended.wait()
            except asyncio.CancelledError:
                continue

    supervisor = Supervisor([Job("stubborn", run, 0.01, at_once=True)])
    supervisor.start()
    [task] = supervisor._tasks
    await asyncio.sleep(0.05)
    with capture_logs() as logs:
        await supervisor.close()
    assert [entry["event"] for entry in logs] == ["job_does_not_end"]
    ended.set()
    await asyncio.wait([task], timeout=5)
    assert task.cancelled(), "once it has ended it does not begin anew"


def test_a_loop_that_ends_without_closing_is_not_held_up() -> None:
    async def main() -> None:
        Supervisor([Job("work", gives(None), 0.01, at_once=True)]).start()
        await asyncio.sleep(0.05)

    asyncio.run(asyncio.wait_for(main(), 5))
