"""`/trail`: a line in words for each change, filters that combine, an export of what is found."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from datetime import UTC, date, datetime, timedelta
from itertools import groupby
from typing import NamedTuple, cast
from urllib.parse import quote, urlencode

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from audit.archived import archive_of
from audit.database import Database
from audit.export import FORMATS, Export, Format
from audit.filters import PARAMETERS, WrongFilter
from audit.ids import cursor_of
from audit.lines import Line, lines
from audit.reading import Page, page
from audit.values import MOST_OF_A_REQUEST, known, of_requests
from home.accounts.in_the_trail import filters_of
from home.web.people import services_of
from home.web.redirects import TRAIL
from home.web.rendering import NO_STORE, render
from home.web.words import plural

LAST = {"1": "Last 24 hours", "7": "Last 7 days", "30": "Last 30 days", "90": "Last 90 days"}
# Behind «More filters», unless one of them is used.
MORE = ("record", "action", "request", "from", "to")
TYPES = {"csv": "text/csv", "ndjson": "application/x-ndjson"}


class Entry(NamedTuple):
    """A line of the page.

    Args:
        time: such as "14:31", and `at` all of it.
        in_request: how many changes its request made, in words; "" where it is said above already.
        is_archived: whether it has left the table.
        is_same_request: whether the line above is of the same request.
    """

    line: Line
    id: int
    time: str
    at: str
    in_request: str
    is_same_request: bool
    is_archived: bool


class Day(NamedTuple):
    """The lines of a day, under its heading."""

    title: str
    entries: list[Entry]


async def entries(request: Request) -> Response:
    """Show a page of the trail."""
    db, archive = services_of(request).db, archive_of(services_of(request))
    typed = typed_of(request)
    found, days, refused, status = Page([], None, None), list[Day](), "", 200
    try:
        filters = await filters_of(db, typed)
        found = await page(db, filters, before_of(request), archive=archive)
        days = await days_of(request, found)
    except WrongFilter as error:
        refused, status = str(error), error.status
    return render(
        request,
        "trail.html",
        status,
        typed=typed,
        refused=refused,
        days=days,
        link_of=record_link,
        found=found,
        last=LAST,
        tables=await known(db, "resource"),
        actions=await known(db, "action"),
        shows_more=any(typed[name] for name in MORE),
        address=lambda **more: address(typed, **more),
        is_continued=request.query_params.get("before", "") != "",
    )


async def export(request: Request) -> Response:
    """Answer with what is filtered as a file, as many rows as there are; it is put on the trail."""
    if request.method == "HEAD":
        raise HTTPException(405, headers={"allow": "GET"})
    db = services_of(request).db
    filters = await filters_of(db, typed_of(request))
    format_ = request.query_params.get("format", "csv")
    if format_ not in FORMATS:
        raise WrongFilter(f"An export is {' or '.join(FORMATS)}.")
    archive = archive_of(services_of(request))
    running = Export(db, filters, cast(Format, format_), archive=archive)
    name = {"content-disposition": f'attachment; filename="trail.{format_}"'}
    return StreamingResponse(_recorded(running), media_type=TYPES[format_], headers=NO_STORE | name)


async def _recorded(running: Export) -> AsyncIterator[bytes]:
    try:
        async for chunk in running.chunks():
            yield chunk
    finally:
        await running.record()


def typed_of(request: Request) -> dict[str, str]:
    """Return the filters as they were typed, "" where there is none."""
    return {name: request.query_params.get(name, "").strip() for name in PARAMETERS}


def address(typed: dict[str, str], **more: object) -> str:
    """Return the address of the page with these filters, and with others in their place."""
    given = {name: str(value) for name, value in {**typed, **more}.items() if value}
    return f"{TRAIL}?{urlencode(given)}" if given else TRAIL


def before_of(request: Request) -> int | None:
    """Return the id after which the page begins.

    Raises:
        WrongFilter: it is none.
    """
    text = request.query_params.get("before", "")
    if not text:
        return None
    number = cursor_of(text)
    if number is None:
        raise WrongFilter("This address does not say where the page begins. Begin anew.")
    return number


async def days_of(request: Request, found: Page) -> list[Day]:
    """Return the rows of a page in words, under the days on which they were written."""
    db: Database = services_of(request).db
    told = await lines(db, found.rows, request.app.state.words)
    requests = {row["request_id"] for row in found.rows} - {None}
    counts = await of_requests(db, sorted(requests))
    return [
        Day(day_in_words(day), entries)
        for day, group in groupby(_entries(told, counts), key=lambda entry: entry.at[:10])
        if (entries := list(group))
    ]


def _entries(told: Sequence[Line], counts: dict[str, int]) -> Iterable[Entry]:
    above = None
    for line in told:
        row = line.row
        same = row["request_id"] is not None and row["request_id"] == above
        above = row["request_id"]
        count = counts.get(above, 1)
        many = f"more than {MOST_OF_A_REQUEST} changes" if count > MOST_OF_A_REQUEST else None
        words = f"{many or plural(count, 'change')} in this request" if count > 1 else ""
        at = at_in_words(row["created_at"])
        is_archived = "is_archived" in row
        yield Entry(line, row["id"], at[11:16], at, "" if same else words, same, is_archived)


def at_in_words(text: str) -> str:
    """Return a moment of the trail as "2026-11-21 14:31:07 UTC"; some are beyond Python's."""
    if text[:4].isdigit() and len(text) > 19:
        return f"{text[:19].replace('T', ' ')} UTC"
    return text.removesuffix("Z")


def day_in_words(text: str) -> str:
    """Return a day as a heading."""
    today = datetime.now(UTC).date()
    days = {today: "Today", today - timedelta(days=1): "Yesterday"}
    try:
        day = date.fromisoformat(text)
    except ValueError:
        return text
    return days.get(day) or f"{day:%A}, {day.day} {day:%B %Y}"


def record_link(line: Line) -> str:
    """Return where a line's record leads: its page, else its life in the trail."""
    return line.record_link or life_of(line.row["resource"], line.row["resource_id"])


def life_of(table: str | None, key: str | None) -> str:
    """Return the address of a record's life; of a table without a record the table's rows."""
    if table is None:
        return TRAIL
    if key is None:
        return address({}, table=table)
    if "/" in table:  # no name of a table, and no part of a path
        return address({}, table=table, record=key)
    return f"{TRAIL}/of/{quote(table, safe='')}/{quote(key, safe='')}"
