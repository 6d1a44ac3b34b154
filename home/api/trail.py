"""`/api/trail`: the audit trail, for administrators and auditors."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, JsonValue
from pydantic_core import to_json
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from audit.archived import archive_of
from audit.database import Database
from audit.errors import GroundworkError
from audit.export import to_ndjson
from audit.filters import PARAMETERS, Filters, WrongFilter
from audit.ids import HIGHEST, cursor_of
from audit.lines import Line, lines
from audit.reading import Page, page
from audit.rows import COLUMNS, SELECTED
from audit.sentences import Row
from home.accounts.in_the_trail import filters_of
from home.services import Services
from home.web.bodies import NO_STORE
from home.web.openapi import Operation
from home.web.people import Who, person_of, services_of

BEFORE = {"before": "The id after which the page begins: `next` of the page before."}
ONE = f"SELECT {', '.join(SELECTED)} FROM audit_logs WHERE id = $1"  # noqa: S608  constants only


class ArchiveNotRead(GroundworkError):
    """Older rows are in the archive, which cannot be read now."""

    status, code, retry_after = 503, "archive_unavailable", 10


class TrailRow(BaseModel):
    """A row of the trail; times in ISO 8601."""

    id: int
    created_at: str
    actor: str | None
    user_id: int | None
    action: str
    resource: str | None
    resource_id: str | None
    details: JsonValue
    ip_address: str | None
    request_id: str | None
    is_admin_action: bool


class TrailEntry(TrailRow):
    """A row of a page, and what it says in words.

    Where `is_large`, its details are larger than 16 kB, and null here: ask for the row alone.
    """

    sentence: str
    is_large: bool


class TrailPage(BaseModel):
    """Rows, the newest first.

    `next` is null where there are no more. `looked_through` is the number of rows that were looked
    through where too few of them fit; go on with `next`.
    """

    rows: list[TrailEntry]
    next: int | None
    looked_through: int | None


def operations(services: Services) -> list[Operation]:
    """Return what readers of the trail may ask."""
    of = "/api/trail/of/{table}/{key:path}"
    return [
        Operation(
            "GET", "/api/trail", list_trail, "Rows of the trail, the newest first.",
            answer=TrailPage, errors=(403, 404, 422), query=PARAMETERS | BEFORE,
            scope="trail",
        ),
        Operation(
            "GET", "/api/trail/{id}", get_trail_row, "One row of the trail, whole.",
            answer=TrailRow, errors=(403, 404), scope="trail",
        ),
        Operation(
            "GET", of, get_record_life, "What happened to one record, the newest first.",
            answer=TrailPage, errors=(403, 404, 422), query=BEFORE, scope="trail",
        ),
    ]  # fmt: skip


async def list_trail(request: Request) -> Response:
    await person_of(request, Who.READERS)
    db, archive = services_of(request).db, archive_of(services_of(request))
    filters = await filters_of(db, request.query_params)
    found = await page(db, filters, _before(request), archive=archive)
    return await _answer(request, db, found)


async def get_trail_row(request: Request) -> Response:
    await person_of(request, Who.READERS)
    text = request.path_params["id"]
    is_id = text.isascii() and text.isdigit() and len(text) < 20 and int(text) <= HIGHEST
    row: Row | None = None
    if is_id:
        row = await services_of(request).db.fetchrow(ONE, int(text))
        if row is None and (archive := archive_of(services_of(request))) is not None:
            row = await archive.row(int(text))
    if row is None:
        raise HTTPException(404, "The trail has no such row.")
    return Response(to_ndjson([row]), headers=NO_STORE, media_type="application/json")


async def get_record_life(request: Request) -> Response:
    await person_of(request, Who.READERS)
    db, archive = services_of(request).db, archive_of(services_of(request))
    table, key = request.path_params["table"], request.path_params["key"]
    filters = Filters(resource=table, resource_id=key)
    found = await page(db, filters, _before(request), archive=archive)
    return await _answer(request, db, found)


def _before(request: Request) -> int | None:
    text = request.query_params.get("before", "")
    if not text:
        return None
    number = cursor_of(text)
    if number is None:
        raise WrongFilter("before: is not the id of a row.")
    return number


async def _answer(request: Request, db: Database, found: Page) -> Response:
    told = await lines(db, found.rows, request.app.state.words)
    rows = [
        # Each ends in "}" and a line feed; the details in it stay as PostgreSQL wrote them.
        to_ndjson([row])[:-2] + b", " + to_json(_more(line))[1:]
        for row, line in zip(map(_plain, found.rows), told, strict=True)
    ]
    if found.unreached:
        raise ArchiveNotRead(found.unreached)
    end = to_json({"next": found.next, "looked_through": found.looked})
    content = b'{"rows": [' + b", ".join(rows) + b"], " + end[1:]
    return Response(content, headers=NO_STORE, media_type="application/json")


def _plain(row: Row) -> dict[str, Any]:
    return {name: row[name] for name in COLUMNS}


def _more(line: Line) -> dict[str, Any]:
    return {"sentence": line.sentence, "is_large": line.row["is_large"]}
