"""`/metrics`: figures for Prometheus, of this process or all workers. Loaded at the first scrape.

Of several workers, what is counted is a sum, and what says something of one is labelled with it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
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

from audit import counts
from audit.jobs import JobStatus
from home.database.connection import BOUNDS, LOST, SECONDS
from home.database.engine import Engine
from home.database.probe import Verdict
from home.monitoring.gauges import GAUGES, KIND, gauges
from home.monitoring.health import may_see_details


async def metrics(request: Request, db: Engine, jobs: Sequence[JobStatus]) -> Response:
    """All figures, for callers in METRICS_NETWORKS that do not come by way of a proxy.

    Raises:
        HTTPException: 403 for others.
    """
    if not may_see_details(request, db):
        raise HTTPException(403, "Metrics are for callers in METRICS_NETWORKS.")
    registry = CollectorRegistry()
    verdict = await db.probe.verdict()
    if (seats := counts.seats) is None:
        registry.register(Figures(verdict, [OfProcess(db, jobs)]))
        ProcessCollector(registry=registry)
        GCCollector(registry=registry)
    else:
        taken = [OfSeat(seats, index) for index in range(seats.number)]
        registry.register(Figures(verdict, taken))
    encode, content_type = choose_encoder(request.headers.get("accept", ""))
    headers = {"content-type": content_type, "cache-control": "no-store"}
    return Response(encode(registry), headers=headers)


class OfProcess:
    """The figures of a process that serves alone."""

    worker = None

    def __init__(self, db: Engine, jobs: Sequence[JobStatus]) -> None:
        self.statements: Sequence[float] = db.timings.numbers
        self.events = counts.counts.of("event")
        self.job_failures = {status.job.name: float(status.failures) for status in jobs}
        self.gauges: Mapping[str, float] = gauges(db, jobs)

    def of_process(self) -> Iterable[Metric]:
        return []  # prometheus_client's own collector


class OfSeat:
    """The figures of a worker, and of those who had its seat before: what they counted."""

    def __init__(self, seats: counts.Seats, index: int) -> None:
        found = seats.counts(index)
        self.worker = str(index + 1)
        self.pid = seats.pid(index)
        self.statements: Sequence[float] = seats.header(index)[1 : 2 + LOST]
        self.events = found.of("event")
        self.job_failures = found.of("job_failure")
        self.gauges: Mapping[str, float] = found.of(KIND) if self.pid else {}

    def of_process(self) -> Iterable[Metric]:
        """Return processor time, memory and file descriptors of the worker's process."""
        return ProcessCollector(pid=lambda: self.pid, registry=None).collect() if self.pid else []


class Figures(Collector):
    """Figures that processes have anyway; the database is asked by the shared probe alone."""

    def __init__(self, verdict: Verdict, parts: Sequence[OfProcess] | Sequence[OfSeat]) -> None:
        self.verdict = verdict
        self.parts = parts
        self.labels = [] if parts[0].worker is None else ["worker"]

    def collect(self) -> Iterator[Metric]:
        yield _gauge("database_up", "1 when the database answers.", self.verdict.connected)
        if self.verdict.latency_ms is not None:
            seconds = self.verdict.latency_ms / 1000
            yield _gauge("database_round_trip_seconds", "Of the health probe.", seconds)
        yield from self._gauges()
        yield from self._statements()
        about = "Events that were put on the trail, sign-ins among them."
        yield _counter("events", about, "action", _sum(part.events for part in self.parts))
        failures = _sum(part.job_failures for part in self.parts)
        yield _counter("job_failures", "How often a job failed.", "job", failures)
        yield from self._processes()

    def _gauges(self) -> Iterator[Metric]:
        for name, (about, label) in GAUGES.items():
            labels = [*self.labels, *([label] if label else [])]
            family = GaugeMetricFamily(f"groundwork_{name}", about, labels=labels)
            for part in self.parts:
                for key, value in part.gauges.items():
                    found, _, of = key.partition(" ")
                    if found == name:
                        values = [*([part.worker] if part.worker else []), *([of] if label else [])]
                        family.add_metric(values, value)
            if family.samples or label:
                yield family

    def _statements(self) -> Iterator[Metric]:
        numbers = [sum(each) for each in zip(*(p.statements for p in self.parts), strict=True)]
        names = [*map(str, BOUNDS), "+Inf"]
        yield HistogramMetricFamily(
            "groundwork_statement_seconds",
            "How long statements of the pool took, failed ones among them.",
            buckets=list(zip(names, accumulate(numbers[:SECONDS]), strict=True)),
            sum_value=numbers[SECONDS],
        )
        yield CounterMetricFamily(
            "groundwork_lost_connections",
            "Connections that failed during a statement.",
            value=numbers[LOST],
        )

    def _processes(self) -> Iterator[Metric]:
        """Put together what the workers' processes say of themselves, each with its label."""
        families: dict[str, Metric] = {}
        for part in self.parts:
            for family in part.of_process():
                given = families.setdefault(
                    family.name, Metric(family.name, family.documentation, family.type)
                )
                for sample in family.samples:
                    labels = {**sample.labels, "worker": str(part.worker)}
                    given.add_sample(sample.name, labels, sample.value)
        yield from families.values()


def _sum(parts: Iterable[Mapping[str, float]]) -> dict[str, float]:
    total: dict[str, float] = {}
    for part in parts:
        for label, number in part.items():
            total[label] = total.get(label, 0) + number
    return total


def _counter(name: str, about: str, label: str, numbers: Mapping[str, float]) -> Metric:
    family = CounterMetricFamily(f"groundwork_{name}", about, labels=[label])
    for of, number in sorted(numbers.items()):
        family.add_metric([of], number)
    return family


def _gauge(name: str, about: str, value: float) -> Metric:
    return GaugeMetricFamily(f"groundwork_{name}", about, value=value)
