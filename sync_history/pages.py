"""`/sync`: sources and how they are doing, lists of runs, and a run as it happens."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from home.services import Services
from home.web.pages import Page
from home.web.people import Who, services_of
from home.web.redirects import is_partial, redirect
from home.web.rendering import render
from sync_history import retries, run_lists, run_log, runner, runs, source_states
from sync_history.run_lists import ACTIVE, TO_LOOK_AT, Filters
from sync_history.runs import CannotStart, NotActive, UnknownSource
from sync_history.settings import SyncSettings
from sync_history.sources import sources
from sync_history.tables import ENDS, Status, SyncRun

LINES = 200  # of a log
CHOICES = {ACTIVE: "active", TO_LOOK_AT: "to look at"} | {str(end): str(end) for end in ENDS}
TAGS = {"succeeded": "good", "partial": "warn", "failed": "bad", "running": "warn"}
# Its own changes in the trail say who does what the run does, wherever it was started.
ACTOR = """
    SELECT actor FROM audit_logs
    WHERE resource = 'sync_history' AND resource_id = $1 AND action = 'sync_history.update'
    ORDER BY id LIMIT 1
"""


def pages(services: Services) -> list[Page]:
    """Return the pages; administrators start and cancel, auditors look on."""
    one = "/sync/runs/{id:int}"
    return [
        Page("/sync", show_sources, Who.READERS, "Sync"),
        Page("/sync/{source}", show_source, Who.READERS),
        Page("/sync/{source}/start", start, methods=["POST"]),
        Page(one, show_run, Who.READERS),
        Page(f"{one}/cancel", cancel, methods=["POST"]),
        Page(f"{one}/again", run_again, methods=["POST"]),
    ]


async def show_sources(request: Request) -> Response:
    """Show all sources, and below them the runs of all."""
    shown = {"states": await _states(request, list(sources()))}
    filters = Filters.of(request.query_params)
    return await _with_runs(request, "sync_history/sources.html", filters, shown)


async def show_source(request: Request) -> Response:
    """Show one source, which may be one of the past, and its runs."""
    name = request.path_params["source"]
    db = services_of(request).db
    if name not in sources() and not await source_states.is_known(db, name):
        raise HTTPException(404, "There is no such source.")
    [state] = await _states(request, [name])
    filters = Filters.of(request.query_params, name)
    return await _with_runs(request, "sync_history/source.html", filters, {"state": state})


async def show_run(request: Request) -> Response:
    """Show a run; htmx asks for its changing part alone."""
    run = await _run_of(request)
    db = services_of(request).db
    is_over = runs.is_over(run)
    lines, lines_before = await run_log.newest(db, run.id, LINES)
    shown = {
        "run": run,
        "is_over": is_over,
        "details": json.loads(run.error_details) if run.error_details else {},
        "seconds": _seconds(run),
        "left": _seconds_left(run),
        "person": request.state.person,
        "is_configured": run.source in sources(),
        "can_retry": run.source in sources() and runs.failed_items(run, sources()[run.source]),
        "trail": _trail_of(run, await db.fetchval(ACTOR, str(run.id))),
        "starter": await _starter(request, run),
        "lines": lines,
        "lines_before": lines_before,
        "next_attempt": await retries.next_attempt(db, run) if is_over else None,
    }
    name = "run_part" if is_partial(request) else "run"
    return render(request, f"sync_history/{name}.html", **_words(), **shown)


async def start(request: Request) -> Response:
    """Begin a run of a source, and show it."""
    form = await request.form()
    return await _begin(
        request,
        request.path_params["source"],
        dry_run="dry_run" in form,
        force="force" in form,
    )


async def run_again(request: Request) -> Response:
    """Begin a run like an earlier one, or one of only what failed in it."""
    run = await _run_of(request)
    retry_of = run.id if "only_failed" in await request.form() else run.retry_of
    return await _begin(
        request, run.source, dry_run=run.dry_run, force=run.force, retry_of=retry_of
    )


async def cancel(request: Request) -> Response:
    """Cancel a run, or that it is tried again."""
    run = await _run_of(request)
    place = f"/sync/runs/{run.id}"
    try:
        run = await runs.cancel(services_of(request).db, run.id)
    except NotActive as error:
        return redirect(place, str(error), failed=True)
    if run.status == Status.FAILED:
        return redirect(place, "It is not tried again.")
    return redirect(place, "It is cancelled, and stops within two seconds.")


async def _begin(
    request: Request, name: str, *, dry_run: bool, force: bool, retry_of: int | None = None
) -> Response:
    services = services_of(request)
    try:
        begun = await runner.begin(services, name, dry_run=dry_run, force=force, retry_of=retry_of)
    except UnknownSource as error:
        raise HTTPException(404, str(error)) from None
    except CannotStart as error:
        return redirect(f"/sync/{name}", str(error), failed=True)
    return redirect(f"/sync/runs/{begun.id}")


async def _states(request: Request, names: list[str]) -> list[source_states.SourceState]:
    services = services_of(request)
    starts = services.settings_of(SyncSettings).sync_scheduler
    return await source_states.states_of(services.db, sources(), names, starts=starts)


async def _with_runs(
    request: Request, template: str, filters: Filters, shown: dict[str, Any]
) -> Response:
    db = services_of(request).db
    page = await run_lists.page_of(db, filters, _number(request.query_params.get("before", "")))
    shown |= {
        "filters": filters,
        "page": page,
        "total": await run_lists.count_of(db, filters),
        "most_counted": run_lists.MOST_COUNTED,
        "choices": CHOICES,
        "sources": list(sources()),
        "path": request.url.path,
        "older": filters.query(before=page.runs[-1]["id"]) if page.has_older else None,
        "is_first": "before" not in request.query_params,
    }
    return render(request, template, **_words(), **shown)


async def _run_of(request: Request) -> SyncRun:
    run = await runs.find(request.path_params["id"])
    if run is None:
        raise HTTPException(404, "There is no such run.")
    return run


async def _starter(request: Request, run: SyncRun) -> str | None:
    """Return the address of who started it, where it was a person."""
    sql = "SELECT email FROM users WHERE id = $1"
    email: str | None = await services_of(request).db.fetchval(sql, run.triggered_by)
    return email


def _trail_of(run: SyncRun, actor: str | None) -> str | None:
    """Return where the trail shows what the run changed."""
    if actor is None or run.started_at is None:
        return None
    until = {"to": run.completed_at.isoformat()} if run.completed_at else {}
    return "/trail?" + urlencode({"person": actor, "from": run.started_at.isoformat()} | until)


def _seconds(run: SyncRun) -> float | None:
    """Return how long it took, or takes so far."""
    if run.duration_ms is not None:
        return run.duration_ms / 1000
    if run.started_at is None or runs.is_over(run):
        return None
    return max((datetime.now(UTC) - run.started_at).total_seconds(), 0)


def _seconds_left(run: SyncRun) -> float | None:
    """Return how long it will take if it goes on like this; None says that nobody knows."""
    seconds, done = _seconds(run), run.items_synced + run.items_failed
    if runs.is_over(run) or not run.items_total or not done or seconds is None:
        return None
    return seconds * max(run.items_total - done, 0) / done


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 11 else None


def _words() -> dict[str, Any]:
    """Return what the templates call."""
    return {
        "tags": TAGS,
        "in_time": in_time,
        "until": until,
    }


def in_time(seconds: float | None) -> str:
    """Return a duration such as "0.4 s", "41 s", "3 min 20 s" or "2 h 5 min"."""
    if seconds is None:
        return "—"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600:,} h {whole % 3600 // 60} min"


def until(moment: datetime) -> str:
    """Return when something is due, such as "in 41 s"."""
    seconds = (moment - datetime.now(UTC)).total_seconds()
    return "now" if seconds < 1 else f"in {in_time(round(seconds))}"
