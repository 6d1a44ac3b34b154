"""`/metrics`: figures of this process for Prometheus. Loaded for the first scrape."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from itertools import accumulate

from prometheus_client import CollectorRegistry, GCCollector, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from audit.jobs import JobStatus
from audit.record import recorded
from audit.sealing import waiting
from home.database.connection import BOUNDS
from home.database.engine import Engine
from home.database.probe import Verdict
from home.monitoring.clocks import seen
from home.monitoring.health import may_see_details


async def metrics(request: Request, db: Engine, jobs: Sequence[JobStatus]) -> Response:
    """All figures, for callers in METRICS_NETWORKS that do not come by way of a proxy.

    Raises:
        HTTPException: 403 for others.
    """
    if not may_see_details(request, db):
        raise HTTPException(403, "Metrics are for callers in METRICS_NETWORKS.")
    registry = CollectorRegistry()
    registry.register(Figures(db, jobs, await db.probe.verdict()))
    ProcessCollector(registry=registry)
    GCCollector(registry=registry)
    encode, content_type = choose_encoder(request.headers.get("accept", ""))
    headers = {"content-type": content_type, "cache-control": "no-store"}
    return Response(encode(registry), headers=headers)


class Figures(Collector):
    """Figures that this process has anyway; the database is asked by the shared probe alone."""

    def __init__(self, db: Engine, jobs: Sequence[JobStatus], verdict: Verdict) -> None:
        self.db = db
        self.jobs = jobs
        self.verdict = verdict

    def collect(self) -> Iterator[Metric]:
        yield _gauge("database_up", "1 when the database answers.", self.verdict.connected)
        if self.verdict.latency_ms is not None:
            seconds = self.verdict.latency_ms / 1000
            yield _gauge("database_round_trip_seconds", "Of the health probe.", seconds)
        if self.db.replica is not None:
            state = self.db.replica.state
            yield _gauge("replica_usable", "1 while reads may go there.", state.usable)
            if state.lag_seconds is not None:
                yield _gauge("replica_lag_seconds", "Behind the primary.", state.lag_seconds)
        yield _gauge("tasks", "Of the event loop.", len(asyncio.all_tasks()))
        yield from self._pool()
        yield from self._statements()
        yield from self._jobs()
        about = "How long the oldest row has waited for a seal, when this process last looked."
        yield _gauge("trail_unsealed_seconds", about, waiting.seconds)
        about = "Of this process, compared with the database's when it last looked."
        yield _gauge("clock_ahead_seconds", about, seen.ahead_seconds)
        future = GaugeMetricFamily(
            "groundwork_rows_in_the_future",
            "Rows that were created in the future, when this process last looked; 1000 is or more.",
            labels=["table"],
        )
        for table, number in seen.rows.items():
            future.add_metric([table], number)
        yield future
        events = CounterMetricFamily(
            "groundwork_events",
            "Events that this process put on the trail, sign-ins among them.",
            labels=["action"],
        )
        for action, count in sorted(recorded.items()):
            events.add_metric([action], count)
        yield events

    def _pool(self) -> Iterator[Metric]:
        pool = self.db.figures()
        connections = GaugeMetricFamily(
            "groundwork_pool_connections", "Connections of the pool.", labels=["state"]
        )
        connections.add_metric(["idle"], pool.idle)
        connections.add_metric(["in_use"], pool.in_use)
        yield connections
        yield _gauge("pool_max", "At most so many connections.", pool.max)
        yield _gauge("pool_waiting", "Tasks that wait for a connection.", pool.waiting)

    def _jobs(self) -> Iterator[Metric]:
        name = "groundwork_job_last_success_timestamp_seconds"
        last = GaugeMetricFamily(name, "When a job last succeeded; 0 is never.", labels=["job"])
        name = "groundwork_job_failures"
        failures = CounterMetricFamily(name, "How often a job failed.", labels=["job"])
        for status in self.jobs:
            at = status.last_success_at
            last.add_metric([status.job.name], at.timestamp() if at else 0)
            failures.add_metric([status.job.name], status.failures)
        yield last
        yield failures

    def _statements(self) -> Iterator[Metric]:
        timings = self.db.timings
        names = [*map(str, BOUNDS), "+Inf"]
        yield HistogramMetricFamily(
            "groundwork_statement_seconds",
            "How long statements of the pool took, failed ones among them.",
            buckets=list(zip(names, accumulate(timings.counts), strict=True)),
            sum_value=timings.seconds,
        )
        yield CounterMetricFamily(
            "groundwork_lost_connections",
            "Connections that failed during a statement.",
            value=timings.lost,
        )


def _gauge(name: str, explanation: str, value: float) -> Metric:
    return GaugeMetricFamily(f"groundwork_{name}", explanation, value=value)
