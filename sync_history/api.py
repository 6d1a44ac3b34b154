"""`/api/sync`: sources and their runs, for administrators."""

from __future__ import annotations

import json
from typing import Any

from pydantic import AwareDatetime, BaseModel, ConfigDict, JsonValue
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from home.api.accounts import Api
from home.api.models import Body, answer, body_of
from home.web.openapi import Operation
from sync_history import runner, runs
from sync_history.runs import AlreadyActive, NotActive, UnknownSource
from sync_history.sources import sources
from sync_history.tables import Status, SyncRun, Trigger

HIDDEN = {"claim", "holds_lock"}  # of no use outside


class Start(Body):
    dry_run: bool = False
    force: bool = False


class OneRun(BaseModel):
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


class Answer(BaseModel):
    """One run."""

    run: OneRun


class OneSource(BaseModel):
    """What can be synced; `every_seconds` is null where it begins by hand only."""

    name: str
    every_seconds: float | None
    last_run: OneRun | None


class Sources(BaseModel):
    """All there are."""

    sources: list[OneSource]


class SyncApi:
    """The handlers; people are who they are in `home.api.accounts`."""

    def __init__(self, people: Api) -> None:
        self.people = people

    def operations(self) -> list[Operation]:
        """What it can do."""
        one = "/api/sync/runs/{id}"
        return [
            Operation(
                "GET", "/api/sync", self.sources, "Sources, and how each did last.",
                answer=Sources, errors=(403,),
            ),
            Operation(
                "POST", "/api/sync/{source}", self.start_run, "Start a run.",
                Start, Answer, 202, errors=(404, 409), is_body_optional=True,
            ),
            Operation("GET", one, self.run, "One run.", answer=Answer, errors=(403, 404)),
            Operation(
                "POST", f"{one}/cancel", self.cancel_run, "End a run, within two seconds.",
                answer=Answer, status=202, errors=(404, 409),
            ),
        ]  # fmt: skip

    async def administrator(self, request: Request) -> None:
        """Refuse everybody else."""
        if not (await self.people.person(request)).is_admin:
            raise HTTPException(403, "Only administrators see and start sync runs.")

    async def sources(self, request: Request) -> Response:
        await self.administrator(request)
        newest = await runs.newest()
        found = [
            {
                "name": source.name,
                "every_seconds": source.every and source.every.total_seconds(),
                "last_run": as_json(newest[source.name]) if source.name in newest else None,
            }
            for source in sources().values()
        ]
        return answer({"sources": found})

    async def run(self, request: Request) -> Response:
        await self.administrator(request)
        run = await runs.find(_id(request))
        if run is None:
            raise HTTPException(404, "There is no such run.")
        return answer({"run": as_json(run)})

    async def start_run(self, request: Request) -> Response:
        options = await body_of(request, Start, if_empty=b"{}")
        await self.administrator(request)
        try:
            started = await runs.start(request.path_params["source"], **options.model_dump())
        except UnknownSource as error:
            raise HTTPException(404, str(error)) from None
        except AlreadyActive as error:
            raise HTTPException(409, str(error)) from None
        runner.launch(started)
        run = await runs.find(started.id)
        assert run is not None
        where = {"location": f"/api/sync/runs/{started.id}"}
        return answer({"run": as_json(run)}, 202, **where)

    async def cancel_run(self, request: Request) -> Response:
        await self.administrator(request)
        try:
            run = await runs.cancel(_id(request))
        except NotActive as error:
            known = await runs.find(_id(request))
            raise HTTPException(409 if known else 404, str(error)) from None
        return answer({"run": as_json(run)}, 202)


def as_json(run: SyncRun) -> dict[str, Any]:
    """A run as JSON can say it: times in ISO 8601, details as an object."""
    row = {name: value for name, value in run.to_dict().items() if name not in HIDDEN}
    for name, value in row.items():
        if hasattr(value, "isoformat"):
            row[name] = value.isoformat()
    row["error_details"] = row["error_details"] and json.loads(row["error_details"])
    return row


def _id(request: Request) -> int:
    """The number in the path; what is none names no run."""
    text = request.path_params["id"]
    return int(text) if text.isascii() and text.isdigit() and len(text) < 11 else 0
