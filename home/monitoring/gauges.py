"""Figures that say something of one process now: of several workers each shares its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from audit import counts
from audit.jobs import Job, JobStatus
from audit.sealing import waiting
from home.database.engine import Engine
from home.monitoring.clocks import seen

KIND = "gauge"
SHARE_SECONDS = 1.0
# Their names, what they are, and their label, where they have one.
GAUGES = {
    "replica_usable": ("1 while reads may go there.", ""),
    "replica_lag_seconds": ("Behind the primary.", ""),
    "tasks": ("Of the event loop.", ""),
    "pool_connections": ("Connections of the pool.", "state"),
    "pool_max": ("At most so many connections.", ""),
    "pool_waiting": ("Tasks that wait for a connection.", ""),
    "job_last_success_timestamp_seconds": ("When a job last succeeded; 0 is never.", "job"),
    "trail_unsealed_seconds": (
        "How long the oldest row has waited for a seal, when this process last looked.",
        "",
    ),
    "clock_ahead_seconds": (
        "Of this process, compared with the database's when it last looked.",
        "",
    ),
    "rows_in_the_future": (
        "Rows that were created in the future, when this process last looked; 1000 is or more.",
        "table",
    ),
}


def gauges(db: Engine, jobs: Sequence[JobStatus]) -> dict[str, float]:
    """Return the figures of this process: by name, or by name and label with a space between."""
    pool = db.figures()
    found = {
        "tasks": float(len(asyncio.all_tasks())),
        "pool_connections idle": pool.idle,
        "pool_connections in_use": pool.in_use,
        "pool_max": pool.max,
        "pool_waiting": pool.waiting,
        "trail_unsealed_seconds": waiting.seconds,
        "clock_ahead_seconds": seen.ahead_seconds,
    }
    if db.replica is not None:
        state = db.replica.state
        found["replica_usable"] = state.usable
        if state.lag_seconds is not None:
            found["replica_lag_seconds"] = state.lag_seconds
    for status in jobs:
        at = status.last_success_at
        name = f"job_last_success_timestamp_seconds {status.job.name}"
        found[name] = at.timestamp() if at else 0
    for table, number in seen.rows.items():
        found[f"rows_in_the_future {table}"] = number
    return found


def job(db: Engine, jobs: Callable[[], Sequence[JobStatus]]) -> Job:
    """Return what shares this worker's figures with the others, each of which may be asked."""

    async def run() -> None:
        if counts.seats is not None:  # else others started the workers
            counts.counts.replace(KIND, gauges(db, jobs()))
            for status in jobs():
                counts.counts.add("job_failure", status.job.name, 0)  # known before it fails

    return Job("share figures", run, SHARE_SECONDS, at_once=True)
