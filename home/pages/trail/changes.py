"""`/trail/<id>`: one change in full, and `/trail/of/<table>/<key>`: the life of one record."""

from __future__ import annotations

import json
from datetime import datetime

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from audit.archived import archive_of
from audit.filters import A_DAY, Filters
from audit.ids import HIGHEST
from audit.lines import line, lines
from audit.one_change import change
from audit.proofs import prove, to_json
from audit.reading import page
from audit.verify import NoArchive
from audit.verifying import last_verification
from home.pages.trail.entries import at_in_words, before_of, days_of, life_of, record_link
from home.web.people import services_of
from home.web.rendering import NO_STORE, render

NEIGHBOURS = 20


async def one_change(request: Request) -> Response:
    """Show one row of the trail."""
    db, archive = services_of(request).db, archive_of(services_of(request))
    found = await change(db, request.path_params["id"], archive)
    if found is None:
        raise HTTPException(404, "The trail has no such row. Perhaps it was pruned.")
    [told] = await lines(db, [found.row], request.app.state.words)
    row = found.row
    neighbours = None
    if row["request_id"] is not None:
        filters = of_request(row["request_id"], row["created_at"])
        neighbours = await page(db, filters, size=NEIGHBOURS, archive=archive)
    verified = await last_verification(db)
    covers = verified is not None and found.seal is not None and found.seal["id"] <= verified.seals
    return render(
        request,
        "trail_change.html",
        found=found,
        link_of=record_link,
        line=told,
        at=at_in_words(row["created_at"]),
        life=life_of(row["resource"], row["resource_id"]),
        days=await days_of(request, neighbours) if neighbours else [],
        is_archived="is_archived" in row,
        has_more=neighbours is not None and neighbours.next is not None,
        verified=verified if covers else None,
    )


def of_request(request: str, at: str) -> Filters:
    """Return a choice of what a request did: it is over in a day, and other files are not read."""
    try:
        moment = datetime.fromisoformat(at)
        return Filters(since=moment - A_DAY, until=moment + A_DAY, request_id=request)
    except (ValueError, OverflowError):
        return Filters(request_id=request)


async def proof(request: Request) -> Response:
    """Answer with the proof of one row, to be given to others."""
    services, id_ = services_of(request), request.path_params["id"]
    if id_ > HIGHEST:
        raise HTTPException(404, "The trail has no such row.")
    try:
        made = to_json(await prove(services.db, id_, archive_of(services)))
    except NoArchive:
        raise HTTPException(404, "The row is in an archive that is not set up here.") from None
    name = {"content-disposition": f'attachment; filename="proof-{id_}.json"'}
    return Response(
        json.dumps(made, ensure_ascii=False), media_type="application/json", headers=NO_STORE | name
    )


async def record_life(request: Request) -> Response:
    """Show what happened to one record, the newest first."""
    db, archive = services_of(request).db, archive_of(services_of(request))
    table, key = request.path_params["table"], request.path_params["key"]
    before = before_of(request)
    found = await page(db, Filters(resource=table, resource_id=key), before, archive=archive)
    if not found.rows and before is None:
        raise HTTPException(404, f"The trail holds nothing about {table[:100]} {key[:255]}.")
    words = request.app.state.words
    names = await words.names[table](db, [key]) if table in words.names else {}
    about = line(found.rows[0], words, {table: names}) if found.rows else None
    return render(
        request,
        "trail_record.html",
        days=await days_of(request, found),
        found=found,
        link_of=record_link,
        table=table,
        key=key,
        title=(about and about.record) or f"{table} {key}",
        link=about.record_link if about else None,
        here=life_of(table, key),
        is_continued=before is not None,
    )
