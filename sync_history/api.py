"""`/api/sync`: sources and their runs, for administrators."""

from __future__ import annotations

import json
from typing import Any

from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from home.api import NO_STORE, Api, Body
from sync_history import runner, runs
from sync_history.runs import AlreadyActive, NotActive, UnknownSource
from sync_history.sources import sources
from sync_history.tables import SyncRun

HIDDEN = {"claim", "holds_lock"}  # of no use outside


class Start(Body):
    dry_run: bool = False
    force: bool = False


class SyncApi:
    """The handlers; people are who they are in `home.api`."""

    def __init__(self, people: Api) -> None:
        self.people = people

    def routes(self) -> list[Route]:
        return [
            Route("/api/sync", self.all),
            Route("/api/sync/{id}", self.one),
            Route("/api/sync/{source}", self.start, methods=["POST"]),
            Route("/api/sync/runs/{id}/cancel", self.cancel, methods=["POST"]),
        ]

    async def administrator(self, request: Request) -> None:
        """Refuse everybody else."""
        if not (await self.people.person(request)).is_admin:
            raise HTTPException(403, "Only administrators see and start sync runs.")

    async def all(self, request: Request) -> Response:
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
        return _answer({"sources": found})

    async def one(self, request: Request) -> Response:
        await self.administrator(request)
        run = await runs.find(_id(request))
        if run is None:
            raise HTTPException(404, "There is no such run.")
        return _answer({"run": as_json(run)})

    async def start(self, request: Request) -> Response:
        options = _options(await request.body())
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
        where = {"location": f"/api/sync/{started.id}"}
        return _answer({"run": as_json(run)}, 202, **where)

    async def cancel(self, request: Request) -> Response:
        await self.administrator(request)
        try:
            run = await runs.cancel(_id(request))
        except NotActive as error:
            known = await runs.find(_id(request))
            raise HTTPException(409 if known else 404, str(error)) from None
        return _answer({"run": as_json(run)}, 202)


def as_json(run: SyncRun) -> dict[str, Any]:
    """A run as JSON can say it: times in ISO 8601, details as an object."""
    row = {name: value for name, value in run.to_dict().items() if name not in HIDDEN}
    for name, value in row.items():
        if hasattr(value, "isoformat"):
            row[name] = value.isoformat()
    row["error_details"] = row["error_details"] and json.loads(row["error_details"])
    return row


def _options(body: bytes) -> Start:
    try:
        return Start.model_validate_json(body or b"{}")
    except ValidationError as error:
        problem = error.errors(include_url=False, include_input=False, include_context=False)[0]
        where = ": ".join([*map(str, problem["loc"]), problem["msg"]])
        raise HTTPException(422, where) from None


def _id(request: Request) -> int:
    """The number in the path; what is none names no run."""
    text = request.path_params["id"]
    return int(text) if text.isascii() and text.isdigit() and len(text) < 11 else 0


def _answer(content: dict[str, Any], status: int = 200, **headers: str) -> JSONResponse:
    return JSONResponse(content, status, headers=NO_STORE | headers)
