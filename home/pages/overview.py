"""The first page: what an administrator wants to know in the morning, each number a link."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from audit.jobs import JobStatus
from audit.sealing import concerns
from audit.settings import AuditSettings
from audit.summary import DailyCounts, daily_counts, state
from home.accounts.sessions import authenticate, request_info
from home.database.engine import Engine
from home.database.probe import Verdict
from home.monitoring.clocks import seen
from home.services import Services
from home.web.people import services_of
from home.web.read_your_writes import allow_replica_reads
from home.web.redirects import OVERVIEW, TRAIL, start_of
from home.web.rendering import render
from home.web.words import ago

DAYS = 14
PEOPLE = """
    SELECT count(*) FILTER (WHERE NOT is_approved AND NOT is_disabled) AS pending,
           count(*) FILTER (WHERE is_disabled) AS disabled,
           count(*) AS all
    FROM users
"""
SESSIONS = "SELECT count(*) AS active FROM sessions WHERE expire > now()"


@dataclass(frozen=True)
class Figure:
    """A number, or a short text, and the list behind it."""

    label: str
    value: str
    href: str | None = None
    needs_attention: bool = False


@dataclass(frozen=True)
class Panel:
    """A part of the page: figures, and perhaps a chart with the words that say the same."""

    title: str
    figures: Sequence[Figure] = field(default_factory=tuple)
    chart: str | None = None
    alt: str = ""


PanelSource = Callable[[Engine], Awaitable[Panel | list[Panel]]]


async def people(db: Engine) -> Panel:
    """Count who waits for approval, and who is here."""
    [row] = await db.fetch(PEOPLE)
    [sessions] = await db.fetch(SESSIONS)
    return Panel(
        "People",
        [
            Figure(
                "awaiting approval",
                str(row["pending"]),
                "/admin/#/users?is_approved=false&is_disabled=false",
                needs_attention=row["pending"] > 0,
            ),
            Figure("disabled", str(row["disabled"]), "/admin/#/users?is_disabled=true"),
            Figure("accounts", str(row["all"]), "/admin/#/users"),
            Figure("active sessions", str(sessions["active"]), "/admin/#/sessions"),
        ],
    )


def sign_ins(counts: DailyCounts) -> Panel:
    """Sign-ins and failures, day by day."""
    actions = {"succeeded": "sign_in.succeeded", "failed": "sign_in.failed"}
    series = {name: counts.series(action) for name, action in actions.items()}
    figures = [
        Figure(
            name,
            f"{sum(series[name]):,}",
            _events(since=counts.days[0], action=action),
        )
        for name, action in actions.items()
    ]
    return _charted("Sign-ins", counts, series, figures)


def changes(counts: DailyCounts) -> Panel:
    """Changed rows for each table, day by day."""
    series = {table: counts.changes(table) for table in counts.tables()}
    figures = [
        Figure(table, f"{sum(values):,}", _events(since=counts.days[0], table=table))
        for table, values in series.items()
    ]
    return _charted("Changes", counts, series, figures)


def _charted(
    title: str, counts: DailyCounts, series: dict[str, list[int]], figures: list[Figure]
) -> Panel:
    from home.pages.charts import bars  # pygal takes longer to load than the server to start

    words = ", ".join(f"{name} {sum(values)}" for name, values in series.items()) or "nothing"
    return Panel(
        f"{title}, last {len(counts.days)} days",
        figures,
        bars(counts.days, series),
        f"{title}: {words}.",
    )


async def trail(db: Engine, seal_interval: float) -> Panel:
    """Return whether the audit trail is sealed, and when it was last found unaltered."""
    now = await state(db)
    strange = await concerns(db, seal_interval)
    found = {None: "", True: ", intact", False: ", ALTERED"}[now.intact]
    return Panel(
        "Audit trail",
        [
            Figure("last seal", ago(now.last_seal), f"{TRAIL}/seals"),
            Figure(
                "last verified",
                ago(now.last_verified) + found,
                f"{TRAIL}/seals",
                needs_attention=now.intact is False,
            ),
            *(Figure("look at this", each, needs_attention=True) for each in strange),
        ],
    )


def database(db: Engine, verdict: Verdict) -> Panel:
    """The pool and the latency now, and clocks that are or were wrong."""
    pool = db.figures()
    latency = f"{verdict.latency_ms} ms" if verdict.is_healthy else str(verdict.error)
    return Panel(
        "Database",
        [
            Figure("round trip", latency, "/api/health", needs_attention=not verdict.is_healthy),
            Figure("connections in use", f"{pool.in_use} of {pool.max}"),
            Figure("waiting for one", str(pool.waiting), needs_attention=pool.waiting > 0),
            *(Figure("clocks", each, needs_attention=seen.is_wrong) for each in seen.sentences()),
        ],
    )


def panels(services: Services) -> list[PanelSource]:
    """Return what this app shows on the overview: people, and the trail."""
    seal_interval = services.settings_of(AuditSettings).audit_seal_interval

    async def people_and_trail(db: Engine) -> list[Panel]:
        counts = await daily_counts(db, last_days())
        about_trail = await trail(db, seal_interval)
        return [await people(db), about_trail, sign_ins(counts), changes(counts)]

    return [people_and_trail]


async def overview(request: Request) -> Response:
    """Answer `/`: figures for administrators, the way to sign in for others."""
    db = services_of(request).db
    verdict = await db.probe.verdict()
    token, shown = request_info.get().token, list[Panel]()
    person = await authenticate(db, token) if verdict.connected and token else None
    request.state.person = person
    if person is not None and start_of(person) != OVERVIEW:
        return RedirectResponse(start_of(person), 303)
    if person is not None:
        allow_replica_reads(request)
        for source in request.app.state.panels():
            found = await source(db)
            shown += found if isinstance(found, list) else [found]
        shown += [jobs(request.app.state.jobs), database(db, verdict)]
    return render(request, "overview.html", panels=shown, connected=verdict.connected)


def jobs(statuses: Sequence[JobStatus]) -> Panel:
    """Say when each job of this process last succeeded."""
    return Panel(
        "Jobs of this process",
        [
            Figure(
                status.job.name,
                ago(status.last_success_at),
                needs_attention=status.is_late or status.failures_in_a_row > 0,
            )
            for status in statuses
        ],
    )


def _events(since: date, **filters: str) -> str:
    """Return where the rows behind a figure stand."""
    return f"{TRAIL}?{urlencode({**filters, 'from': since.isoformat()})}"


def last_days() -> list[date]:
    """Those of the charts, oldest first, in UTC."""
    today = datetime.now(UTC).date()
    return [today - timedelta(days=DAYS - 1 - n) for n in range(DAYS)]
