"""`/api/sync`: sources and their runs, for administrators."""

from __future__ import annotations

import json
from functools import partial
from typing import Any

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, JsonValue
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from audit.ids import id_of
from home.services import Services
from home.web.bodies import Body, answer, body_of
from home.web.openapi import Operation
from home.web.people import Who, person_of, services_of
from sync_history import run_log, runner, runs, tables
from sync_history.runs import CannotStart, NotActive, UnknownSource
from sync_history.settings import SyncSettings
from sync_history.sources import load, sources
from sync_history.tables import Status, Trigger

HIDDEN = {"claim", "holds_lock"}  # of no use outside


class StartSyncRun(Body):
    dry_run: bool = False
    force: bool = False
    retry_of: int | None = Field(
        default=None,
        gt=0,
        lt=2**31,
        description="An earlier run, of which only the failed items are to be redone",
    )


class SyncRun(BaseModel):
    """A run, as far as it has come."""

    model_config = ConfigDict(extra="allow")

    id: int
    source: str
    status: Status
    trigger_type: Trigger
    triggered_by: int | None
    started_at: AwareDatetime | None
    completed_at: AwareDatetime | None
    duration_ms: int | None
    items_total: int | None
    items_synced: int
    items_failed: int
    error_message: str | None
    error_details: dict[str, JsonValue] | None
    needs_attention: bool
    attention_reason: str | None
    retry_of: int | None
    attempt: int
    attempts: int
    attempt_of: int | None
    retry_at: AwareDatetime | None


class SyncRunResponse(BaseModel):
    """One run."""

    run: SyncRun


class LogLine(BaseModel):
    """What a source logged; `level` as Python's logging names it."""

    id: int
    at: AwareDatetime
    level: str
    text: str


class SyncRunLog(BaseModel):
    """Lines of a run, the oldest first; `next` is the `after` of those that follow, or null."""

    lines: list[LogLine]
    next: int | None


class SyncSource(BaseModel):
    """A source; it begins by hand only where both `every_seconds` and `schedule` are null."""

    name: str
    every_seconds: float | None
    schedule: str | None
    zone: str | None
    last_run: SyncRun | None


class SyncSources(BaseModel):
    """All there are."""

    sources: list[SyncSource]


def operations(services: Services) -> list[Operation]:
    """Return what administrators can do with runs."""
    load(services.settings_of(SyncSettings).source_modules)
    of = partial(Operation, scope="sync")
    one = "/api/sync/runs/{id}"
    return [
        of(
            "GET", "/api/sync", list_sources, "Sources, and how each did last.",
            answer=SyncSources, errors=(403,),
        ),
        of(
            "POST", "/api/sync/{source}", start_run, "Start a run.",
            StartSyncRun, SyncRunResponse, 202, errors=(404, 409), is_body_optional=True,
        ),
        of("GET", one, get_run, "One run.", answer=SyncRunResponse, errors=(403, 404)),
        of(
            "GET", f"{one}/log", get_log, "What its source logged, a thousand lines at a time.",
            answer=SyncRunLog, errors=(403, 404),
            query={"after": "the id of a line: only those that came after it"},
        ),
        of(
            "POST", f"{one}/cancel", cancel_run,
            "End a run, within two seconds. One that failed is not tried again.",
            answer=SyncRunResponse, status=202, errors=(404, 409),
        ),
    ]  # fmt: skip


async def list_sources(request: Request) -> Response:
    await person_of(request, Who.ADMINISTRATORS)
    newest = await runs.newest(sources())
    found = [
        {
            "name": source.name,
            "every_seconds": source.every and source.every.total_seconds(),
            "schedule": source.schedule and source.schedule.expression,
            "zone": source.schedule and source.schedule.zone,
            "last_run": as_json(newest[source.name]) if source.name in newest else None,
        }
        for source in sources().values()
    ]
    return answer({"sources": found})


async def get_run(request: Request) -> Response:
    await person_of(request, Who.ADMINISTRATORS)
    run = await runs.find(_id(request))
    if run is None:
        raise HTTPException(404, "There is no such run.")
    return answer({"run": as_json(run)})


async def get_log(request: Request) -> Response:
    await person_of(request, Who.ADMINISTRATORS)
    if await runs.find(_id(request)) is None:
        raise HTTPException(404, "There is no such run.")
    after = id_of(request.query_params.get("after", "0"))
    if after is None:
        raise HTTPException(400, "after is the id of a line.")
    rows = await run_log.newer(services_of(request).db, _id(request), after, run_log.AT_ONCE + 1)
    lines = [{**row, "at": row["at"].isoformat()} for row in rows[: run_log.AT_ONCE]]
    return answer(
        {"lines": lines, "next": lines[-1]["id"] if len(rows) > run_log.AT_ONCE else None}
    )


async def start_run(request: Request) -> Response:
    options = await body_of(request, StartSyncRun, if_empty=b"{}")
    await person_of(request, Who.ADMINISTRATORS)
    name = request.path_params["source"]
    try:
        started = await runner.begin(services_of(request), name, **options.model_dump())
    except UnknownSource as error:
        raise HTTPException(404, str(error)) from None
    except CannotStart as error:
        raise HTTPException(409, str(error)) from None
    run = await runs.find(started.id)
    assert run is not None
    where = {"location": f"/api/sync/runs/{started.id}"}
    return answer({"run": as_json(run)}, 202, **where)


async def cancel_run(request: Request) -> Response:
    await person_of(request, Who.ADMINISTRATORS)
    try:
        run = await runs.cancel(services_of(request).db, _id(request))
    except NotActive as error:
        known = await runs.find(_id(request))
        raise HTTPException(409 if known else 404, str(error)) from None
    return answer({"run": as_json(run)}, 202)


def as_json(run: tables.SyncRun) -> dict[str, Any]:
    """Return a run as JSON: times in ISO 8601, details as an object."""
    row = {name: value for name, value in run.to_dict().items() if name not in HIDDEN}
    for name, value in row.items():
        if hasattr(value, "isoformat"):
            row[name] = value.isoformat()
    row["error_details"] = row["error_details"] and json.loads(row["error_details"])
    return row


def _id(request: Request) -> int:
    """Return the number in the path; 0, which no run has, where it is none."""
    text = request.path_params["id"]
    return int(text) if text.isascii() and text.isdigit() and len(text) < 11 else 0
