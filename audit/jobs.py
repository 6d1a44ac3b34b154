"""Work beside the requests, each piece with an owner: what fails is logged and run again."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from audit.log import Logger

LATE = 3  # times `every`: a job that has not succeeded for so long stands still

log = Logger("groundwork.jobs")


@dataclass(frozen=True)
class Job:
    """Something that is done again and again, in each process.

    Args:
        name: for logs, metrics and the overview.
        run: does it once. It may return the seconds until the next time, instead of `every`.
        every: seconds from the end of one time to the beginning of the next.
        at_once: the first time is when the process starts, rather than `every` seconds later.
        longest_pause: seconds between attempts while it fails, at most.
    """

    name: str
    run: Callable[[], Awaitable[float | None]]
    every: float
    at_once: bool = False
    longest_pause: float = 60.0


@dataclass
class JobStatus:
    """How a job gets on in this process; times are in UTC."""

    job: Job
    started_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    last_success_at: datetime | None = None
    failures: int = 0
    failures_in_a_row: int = 0
    last_error: str | None = None

    @property
    def is_late(self) -> bool:
        """Return whether it has not succeeded for three times as long as it should take."""
        age = datetime.now(UTC) - (self.last_success_at or self.started_at)
        return age.total_seconds() > LATE * max(self.job.every, self.job.longest_pause)


class Supervisor:
    """Runs jobs until it is closed. None of them can end, and none can end the process."""

    def __init__(self, jobs: Iterable[Job] = ()) -> None:
        self.statuses = [JobStatus(job) for job in jobs]
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin with all jobs, each in a task of its own."""
        self._tasks = [
            asyncio.create_task(_keep_running(status), name=status.job.name)
            for status in self.statuses
        ]

    async def close(self) -> None:
        """Cancel all jobs, and wait until they have ended."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []


async def _keep_running(status: JobStatus) -> None:
    job = status.job
    pause = 0.0 if job.at_once else job.every
    while True:
        await asyncio.sleep(pause)
        try:
            given = await job.run()
        except BaseException as error:  # SystemExit in a task would end the whole process
            if isinstance(error, asyncio.CancelledError) and _is_ending():
                raise
            pause = _failed(status, error)
        else:
            if status.failures_in_a_row:
                log.info("job_recovered", job=job.name, failures=status.failures_in_a_row)
            status.last_success_at = datetime.now(UTC)
            status.failures_in_a_row, status.last_error = 0, None
            pause = job.every if given is None else given


def _failed(status: JobStatus, error: BaseException) -> float:
    """Note and log a failure; return the seconds until the next attempt."""
    status.failures += 1
    status.failures_in_a_row += 1
    status.last_error = type(error).__name__
    number = status.failures_in_a_row
    if number & (number - 1) == 0:  # the first, second, fourth, eighth ...
        is_ours = not isinstance(error, ConnectionError)  # else the database is away
        log.log(
            logging.ERROR if is_ours else logging.WARNING,
            "job_failed",
            job=status.job.name,
            error=status.last_error,
            in_a_row=number,
            exc_info=error if is_ours else None,
        )
    longest = min(status.job.longest_pause, max(status.job.every, 1.0))
    return secrets.SystemRandom().uniform(0.5, 1) * min(0.25 * 2.0 ** min(number, 10), longest)


def _is_ending() -> bool:
    """Return whether the supervisor cancelled this task, rather than the job itself."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
