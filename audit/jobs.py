"""Work beside the requests, each piece with an owner: what fails is logged and run again."""

from __future__ import annotations

import asyncio
import logging
import math
import secrets
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from audit.counts import counts
from audit.log import Logger

LATE = 3  # times `every`: a job that has not succeeded for so long stands still
CLOSE_SECONDS = 5.0

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
    """The state of a job in this process; times are in UTC."""

    job: Job
    last_success_at: datetime | None = None
    failures: int = 0
    failures_in_a_row: int = 0
    last_error: str | None = None
    # Of a clock that nobody sets.
    _succeeded: float = field(default_factory=time.monotonic)

    @property
    def is_late(self) -> bool:
        """Return whether it has not succeeded for three times as long as it should take."""
        age = time.monotonic() - self._succeeded
        return age > LATE * max(self.job.every, self.job.longest_pause)

    def succeeded(self) -> None:
        """Note a success, and log that it ended a row of failures."""
        if self.failures_in_a_row:
            log.info("job_recovered", job=self.job.name, failures=self.failures_in_a_row)
        self.last_success_at, self._succeeded = datetime.now(UTC), time.monotonic()
        self.failures_in_a_row, self.last_error = 0, None

    def failed(self, error: BaseException) -> None:
        """Note and log a failure; of many in a row the first, second, fourth, eighth ..."""
        self.failures += 1
        counts.add("job_failure", self.job.name)
        self.failures_in_a_row += 1
        self.last_error = type(error).__name__
        number = self.failures_in_a_row
        if number & (number - 1) == 0:
            is_ours = not isinstance(error, ConnectionError)  # else the database is away
            log.log(
                logging.ERROR if is_ours else logging.WARNING,
                "job_failed",
                job=self.job.name,
                error=self.last_error,
                in_a_row=number,
                exc_info=error if is_ours else None,
            )

    def backoff(self) -> float:
        """Return the seconds until the next attempt after a failure."""
        longest = min(self.job.longest_pause, max(self.job.every, 1.0))
        wait = 0.25 * 2.0 ** min(self.failures_in_a_row, 10)
        return secrets.SystemRandom().uniform(0.5, 1) * min(wait, longest)


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
        """Cancel all jobs, and wait until they have ended; not for one that does not obey."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        if tasks:
            _, others = await asyncio.wait(tasks, timeout=CLOSE_SECONDS)
            for task in others:
                log.warning("job_does_not_end", job=task.get_name())


async def _keep_running(status: JobStatus) -> None:
    pause = 0.0 if status.job.at_once else status.job.every
    while True:
        await asyncio.sleep(pause)
        # In a task of its own: what the job does to its task, such as cancelling it, ends that one.
        attempt = asyncio.create_task(_attempt(status.job), name=status.job.name)
        try:
            await asyncio.wait({attempt})
        except asyncio.CancelledError:
            attempt.cancel()
            await asyncio.wait({attempt})
            raise
        done = asyncio.CancelledError() if attempt.cancelled() else attempt.result()
        if isinstance(done, BaseException):
            status.failed(done)
            pause = status.backoff()
        else:
            status.succeeded()
            pause = done


async def _attempt(job: Job) -> float | BaseException:
    """Do a job once; return the seconds until its next time, or why it failed."""
    try:
        given = await job.run()
    except BaseException as error:  # SystemExit in a task would end the whole process
        return error
    if given is None:
        return job.every
    if isinstance(given, float | int) and 0 <= given < math.inf:
        return given
    return ValueError("a job returns the seconds until its next time, or nothing")
