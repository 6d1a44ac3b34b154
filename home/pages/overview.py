"""The first page: what an administrator wants to know in the morning, each number a link."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from audit.jobs import JobStatus
from audit.sealing import concerns
from audit.settings import AuditSettings
from audit.summary import DailyCounts, audited_tables, daily_counts, state
from home.accounts.sessions import authenticate, request_info
from home.database.engine import Engine
from home.database.probe import Verdict
from home.monitoring.clocks import seen
from home.pages.charts import Series
from home.pages.panels import Figure, Need, Panel, PanelSource, Urgency, charted, last_days
from home.services import Services
from home.web.people import services_of
from home.web.read_your_writes import allow_replica_reads
from home.web.redirects import OVERVIEW, start_of
from home.web.rendering import render
from home.web.words import ago

VERIFY_DAYS = 31  # a trail that was not verified for longer should be
COLOURS = 8
WAITING = "/people?group=waiting"
SEALS = "/trail/seals"
PEOPLE = """
    SELECT count(*) FILTER (WHERE NOT is_approved AND NOT is_disabled) AS pending,
           count(*) FILTER (WHERE is_disabled) AS disabled,
           count(*) AS all
    FROM users
"""
# The newest restore drill, and the newest one that went well.
DRILLED = """
    SELECT created_at, details -> 'ok' = 'true' AS is_well, (
        SELECT max(created_at) FROM audit_logs
        WHERE action = 'restore.drilled' AND details -> 'ok' = 'true') AS went_well
    FROM audit_logs WHERE action = 'restore.drilled' ORDER BY created_at DESC LIMIT 1
"""
SESSIONS = "SELECT count(*) FROM sessions WHERE expire > $1"


async def people(db: Engine) -> Panel:
    """Count who waits for approval, and who is here."""
    [row] = await db.fetch(PEOPLE)
    now = datetime.now(UTC)
    sessions = await db.fetchval(SESSIONS, now)
    waiting = row["pending"]
    wait = "1 person waits" if waiting == 1 else f"{waiting:,} people wait"
    unexpired = urlencode({"expire": now.isoformat(), "expire__operator": "gt"})
    return Panel(
        "People",
        [
            Figure("awaiting approval", f"{waiting:,}", WAITING, needs_attention=waiting > 0),
            Figure("disabled", f"{row['disabled']:,}", "/people?group=disabled"),
            Figure("accounts", f"{row['all']:,}", "/people?group=all"),
            Figure("active sessions", f"{sessions:,}", f"/admin/#/sessions?{unexpired}"),
        ],
        needs=[Need(f"{wait} for approval.", WAITING)] if waiting else [],
    )


def sign_ins(counts: DailyCounts) -> Panel:
    """Sign-ins and failures, day by day."""
    series = [
        Series("succeeded", counts.series("sign_in.succeeded"), "good"),
        Series("failed", counts.series("sign_in.failed"), "bad"),
    ]
    since = counts.days[0]
    hrefs = [_events(since, action=f"sign_in.{each.name}") for each in series]
    return charted("Sign-ins", counts.days, series, hrefs)


def changes(counts: DailyCounts, tables: Sequence[str]) -> Panel:
    """Chart the changes of each table, day by day.

    Args:
        tables: those on the trail; the colours go by their order.
    """
    series = [
        Series(table, values, str(place % COLOURS + 1))
        for place, table in enumerate(tables)
        if any(values := counts.changes(table))
    ]
    since = counts.days[0]
    hrefs = [_events(since, table=each.name) for each in series]
    return charted("Changes", counts.days, series, hrefs)


async def trail(db: Engine, seal_interval: float) -> Panel:
    """Return whether the audit trail is sealed, and when it was last found unaltered."""
    now = await state(db)
    strange = await concerns(db, seal_interval)
    found = {None: "", True: ", intact", False: ", ALTERED"}[now.intact]
    verified = SEALS
    needs = [Need(_sentence(each), SEALS, Urgency.TODAY) for each in strange]
    if now.intact is False:
        needs.append(Need("The audit trail is not what it was sealed as.", verified, Urgency.NOW))
    elif now.last_seal and _is_long_ago(now.last_verified):
        words = f"was last verified {ago(now.last_verified)}" if now.last_verified else "never was"
        needs.append(Need(f"The audit trail {words}: run piccolo audit verify.", verified))
    drilled = await db.fetchrow(DRILLED)
    drill = []
    if drilled is not None:
        href = f"/trail?{urlencode({'action': 'restore.drilled'})}"
        failed = not drilled["is_well"]
        last = ago(drilled["went_well"])
        drill.append(Figure("last restore drill that went well", last, href, failed))
        if failed:
            needs.append(Need("The last restore drill failed.", href, Urgency.TODAY))
    return Panel(
        "Audit trail",
        [
            Figure("last seal", ago(now.last_seal), SEALS, needs_attention=bool(strange)),
            Figure(
                "last verified",
                ago(now.last_verified) + found,
                verified,
                needs_attention=now.intact is False,
            ),
            *drill,
        ],
        needs=needs,
    )


def database(db: Engine, verdict: Verdict) -> Panel:
    """The pool and the latency now, and clocks that are or were wrong."""
    pool = db.figures()
    latency = f"{verdict.latency_ms} ms" if verdict.is_healthy else str(verdict.error)
    needs = [Need(_sentence(each), None, Urgency.TODAY) for each in seen.sentences()]
    if not verdict.is_healthy:
        problem = f"The database does not do well: {verdict.error}."
        needs.append(Need(problem, "/api/health", Urgency.NOW))
    return Panel(
        "Database",
        [
            Figure("round trip", latency, "/api/health", needs_attention=not verdict.is_healthy),
            Figure("connections in use", f"{pool.in_use} of {pool.max}"),
            Figure("waiting for one", str(pool.waiting), needs_attention=pool.waiting > 0),
        ],
        needs=needs,
    )


def panels(services: Services) -> list[PanelSource]:
    """Return what this app shows on the overview: people, and the trail."""
    seal_interval = services.settings_of(AuditSettings).audit_seal_interval

    async def people_and_trail(db: Engine) -> list[Panel]:
        counts = await daily_counts(db, last_days())
        about_trail = await trail(db, seal_interval)
        about_tables = changes(counts, await audited_tables(db))
        return [await people(db), about_trail, sign_ins(counts), about_tables]

    found: list[PanelSource] = [people_and_trail]
    if services.settings.smtp_url is not None or services.settings.webhook_url:
        from home.pages.messages import messages

        found.append(messages)
    return found


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
    needs = sorted((n for panel in shown for n in panel.needs), key=lambda need: need.urgency)
    return render(request, "overview.html", panels=shown, needs=needs, connected=verdict.connected)


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
        needs=[Need(text, None, Urgency.TODAY) for text in map(_standstill, statuses) if text],
    )


def _standstill(status: JobStatus) -> str | None:
    """Return what is wrong with a job; one failure may be settled by the next attempt."""
    name, number = f"The job “{status.job.name}”", status.failures_in_a_row
    if number > 1:
        return f"{name} failed {number} times in a row ({status.last_error}): see the log."
    if status.is_late:
        return f"{name} stands still. It last succeeded: {ago(status.last_success_at)}."
    return None


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


def _is_long_ago(moment: datetime | None) -> bool:
    return moment is None or datetime.now(UTC) - moment > timedelta(days=VERIFY_DAYS)


def _events(since: date, **filters: str) -> str:
    """Return where the rows behind a figure stand: from a day (UTC) on."""
    return f"/trail?{urlencode({**filters, 'from': since.isoformat()})}"
