"""A page of the trail, the newest first: bounded in time and bytes however long the trail is.

Rows come by (created_at, id), so that dates select exactly, also where a long transaction wrote a
row late. A page looks through a number of rows along one index, that of the filter with the fewest
rows; the other filters are applied to those. Where too few of them fit, the page says how many it
has looked through, and where the next one goes on.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from audit.context import storable
from audit.database import Queries
from audit.errors import Refused
from audit.filters import Filters
from audit.paging import INLINE_BYTES
from audit.rows import SELECTED
from audit.sentences import Row

if TYPE_CHECKING:
    from audit.archived import OldRows

Group: TypeAlias = tuple[str, ...]  # names of filters that share an index

SIZE = 50  # rows of a page
LOOK_AT = 5_000  # rows
LOOK_AT_BYTES = 4 * 2**20  # of `details` as they are stored
STORED_BYTES = 8_192  # of `details`: what is stored in more is not written out to be measured
TIMES = ("since", "until")
# What has an index of its own in the order of pages, together with times. The first wins a draw.
INDEXED = (
    ("request_id",),
    ("resource", "resource_id"),
    ("ip_address",),
    ("user_id",),
    ("actor",),
    ("action",),
    ("resource",),
    (),
)
CUT = {
    "details": "CASE WHEN octet_length(written) <= {most} THEN written END AS details",
    "actor": "left(actor, 300) AS actor",
}
LOOK = """
    SELECT {columns}, fits, n, n = {look_at} OR bytes > {bytes} AS is_end,
           details IS NOT NULL AND coalesce(octet_length(written), {most} + 1) > {most} AS is_large
    FROM (
        SELECT audit_logs.*, row_number() OVER passed AS n,
               coalesce(sum(pg_column_size(details)) OVER passed, 0) AS bytes
        FROM audit_logs WHERE {along}
        WINDOW passed AS ({order} ROWS UNBOUNDED PRECEDING)
        {order} LIMIT {look_at}
    ) AS looked,
    LATERAL (SELECT bytes - coalesce(pg_column_size(details), 0) <= {bytes} AS is_near
             OFFSET 0) AS a,
    LATERAL (SELECT CASE WHEN is_near THEN coalesce({rest}, false) ELSE false END AS fits
             OFFSET 0) AS b,
    LATERAL (SELECT CASE WHEN fits AND pg_column_size(details) <= {stored}
                         THEN details::text END AS written OFFSET 0) AS c
    WHERE fits OR (is_near AND (n = {look_at} OR bytes > {bytes}))
    {outer} LIMIT {size}
"""


EXISTS = "SELECT EXISTS (SELECT FROM audit_logs WHERE id = $1)"


class Gone(Refused):
    """The place in the trail where this page begins is not there any more. Begin anew."""

    status, code = 404, "not_found"


class Page(NamedTuple):
    """Rows, the newest first: the columns of an export, and `is_large` where details are left out.

    Args:
        next: the id after which the next page begins; None where there is no more.
        looked: where fewer rows than a page holds were found, the number of those looked through
            so far; None where the page is full, or the last.
        unreached: why rows of the archive may be missing.
    """

    rows: Sequence[Row]
    next: int | None
    looked: int | None
    unreached: str = ""


async def page(
    db: Queries,
    filters: Filters,
    before: int | None = None,
    size: int = SIZE,
    archive: OldRows | None = None,
) -> Page:
    """Return the newest rows of a choice, or those that come after the row `before`.

    Args:
        archive: where older rows may be.

    Raises:
        Gone: there is no row `before`.
    """
    if archive is not None:
        return await archive.page(filters, before, size, db)
    return await page_of_table(db, filters, before, size)


async def page_of_table(
    db: Queries, filters: Filters, before: int | None, size: int, at: datetime | None = None
) -> Page:
    """Return a page without the archive.

    Args:
        at: when the row `before` was written, which is not in the table.
    """
    along = await fewest(db, filters)
    sql, values = statement(filters, along, before, size, at)
    found = await db.fetch(sql, *values)
    if not found and before is not None and at is None and not await db.fetchval(EXISTS, before):
        raise Gone
    rows = [row for row in found if row["fits"]]
    if len(rows) > size:
        return Page(rows[:size], rows[size - 1]["id"], None)
    ends = found[-1] if found else None  # the last that was looked at, or the last there is
    if ends is not None and ends["is_end"]:
        return Page(rows, ends["id"], None if len(rows) == size else ends["n"])
    return Page(rows, None, None)


def candidates(filters: Filters) -> list[Group]:
    """Return the groups of filters that have an index, such as `("resource", "resource_id")`."""
    given = filters.given()
    found: list[Group] = [group for group in INDEXED if all(name in given for name in group)]
    if ("resource", "resource_id") in found:
        found.remove(("resource",))
    return found


async def fewest(db: Queries, filters: Filters) -> Group:
    """Return the group with the fewest rows; nobody counts further than a page looks."""
    groups = candidates(filters)
    if len(groups) == 1 or (len(groups) == 2 and not any(map(filters.given().get, TIMES))):
        return groups[0]
    sql, values = counting(filters, groups)
    counts = await db.fetchrow(sql, *values)
    assert counts is not None
    return min(zip(counts, groups, strict=True), key=lambda pair: pair[0])[1]


def counting(filters: Filters, groups: Sequence[Group]) -> tuple[str, list[Any]]:
    """Return the statement that counts along each index, up to LOOK_AT."""
    parts, values = list[str](), list[Any]()
    for group in groups:
        if not group and not any(name in filters.given() for name in TIMES):
            parts.append(f"{LOOK_AT}::bigint")
            continue
        along = Along(filters, group, None, values)
        rows = f"SELECT FROM audit_logs WHERE {along.condition} {along.order} LIMIT {LOOK_AT}"
        parts.append(f"(SELECT count(*) FROM ({rows}) AS rows)")  # noqa: S608  parameters
    return f"SELECT {', '.join(parts)}", values


def statement(
    filters: Filters, group: Group, before: int | None, size: int, at: datetime | None = None
) -> tuple[str, list[Any]]:
    """Return the statement of a page that looks along the index of a group of filters."""
    values = list[Any]()
    along = Along(filters, group, before, values, at)
    given = filters.given()
    done = {*group, "since", *(("until",) if before is None else ())}
    others = {name: given[name] for name in given if name not in done}
    rest, more = Filters(**others).where(len(values) + 1)
    columns = ", ".join(
        CUT[each].format(most=INLINE_BYTES) if each in CUT else each for each in SELECTED
    )
    sql = LOOK.format(
        columns=columns, along=along.condition, order=along.order, rest=rest, look_at=LOOK_AT,
        outer=along.order.replace("BY ", "BY looked.").replace(", ", ", looked."),
        bytes=LOOK_AT_BYTES, stored=STORED_BYTES, most=INLINE_BYTES, size=size + 1,
    )  # fmt: skip
    return sql, [storable(value) for value in (*values, *more)]


class Along:
    """A part of an index: `condition` and `order` in SQL; parameters go into `values`.

    Equality in the group's last column is written as a range, and the column stands in the order:
    only that index has it, so PostgreSQL reads along it, however common it takes a value to be.
    Upper bounds are rows, of which it expects many: else it would fetch all of them, and sort.
    """

    def __init__(
        self,
        filters: Filters,
        group: Group,
        before: int | None,
        values: list[Any],
        at: datetime | None = None,
    ) -> None:
        given = filters.given()
        self._values = values
        bounds = [self._parameter(given[name]) for name in group]
        found = [f"{name} = {bound}" for name, bound in zip(group[:-1], bounds, strict=False)]
        last = list(zip(group[-1:], bounds[-1:], strict=True))
        found += [f"{name} >= {bound}" for name, bound in last]
        if "since" in given:
            since = ("created_at", self._parameter(given["since"]))
            found.append(_compare(">=", *last, since))
        if before is not None:  # and before `until`, since the page before was
            place = f"{self._parameter(before)}::bigint"
            row = f"(SELECT created_at FROM audit_logs WHERE id = {place})"  # noqa: S608
            if at is not None:
                row = f"{self._parameter(at)}::timestamptz"
            found.append(_compare("<", *last, ("created_at", row), ("id", place)))
        elif "until" in given:
            until = ("created_at", self._parameter(given["until"]))
            found.append(_compare("<", *last, until))
        elif group:
            found.append(_compare("<=", *last, ("created_at", "'infinity'::timestamptz")))
        self.condition = " AND ".join(found) or "true"
        columns = [*group, "created_at", "id"]
        self.order = f"ORDER BY {', '.join(f'{each} DESC' for each in columns)}"

    def _parameter(self, value: Any) -> str:
        self._values.append(storable(value))
        return f"${len(self._values)}"


def _compare(how: str, *pairs: tuple[str, str]) -> str:
    """Return a comparison of rows, as `(a, b) < ($1, $2)`."""
    columns, bounds = zip(*pairs, strict=True)
    return f"({', '.join(columns)}) {how} ({', '.join(bounds)})"
