"""The trail as a file: NDJSON or CSV, in the order of ids, as many rows as there are."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal, get_args

from audit.database import Database, Queries
from audit.filters import Filters
from audit.ids import HIGHEST
from audit.paging import PAGE, select, whole
from audit.reading import Along, fewest
from audit.record import record
from audit.rows import COLUMNS, SELECTED
from audit.seals import LOWEST_ID
from audit.sentences import Row
from audit.verify import HAS_ARCHIVE, NoArchive

if TYPE_CHECKING:
    from audit.archived import OldRows

Format = Literal["ndjson", "csv"]
FORMATS: tuple[str, ...] = get_args(Format)

# What a spreadsheet takes for the beginning of a formula (OWASP, «CSV injection»).
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")

FEW = 100_000  # rows that are found by an index before they are read
STEP = """
    SELECT max(id) FROM (
        SELECT id FROM audit_logs WHERE id > $1 AND id <= $2 ORDER BY id LIMIT 20000
    ) AS part
"""

encode = json.JSONEncoder(ensure_ascii=False).encode


class Export:
    """One export; `rows` is the number of those delivered so far.

    Args:
        progress: called with the number of ids that each step has passed.
        archive: where older rows may be.
    """

    def __init__(
        self,
        db: Database,
        filters: Filters,
        format_: Format = "ndjson",
        progress: Callable[[int], None] = lambda ids: None,
        archive: OldRows | None = None,
    ) -> None:
        self.db = db
        self.filters = filters
        self.format: Format = format_
        self.rows = 0
        self._progress = progress
        self._archive = archive

    async def chunks(self, connection: Queries | None = None) -> AsyncIterator[bytes]:
        """Yield the file in UTF-8, in pieces of up to 500 rows or 8 MB, or one row.

        First it puts on the trail that an export begins: one that is killed leaves that record. A
        connection is held while a page is read, not while a slow client takes it. Rows that come in
        meanwhile are left out.

        Args:
            connection: to use instead of one from the pool for each page.

        Raises:
            NoArchive: rows were archived, and nobody says where.
        """
        queries = connection or self.db
        if self._archive is None and await queries.fetchval(HAS_ARCHIVE):
            raise NoArchive
        bounds = await queries.fetchrow("SELECT min(id), max(id) FROM audit_logs")
        await self._record("audit.export_started")
        if self.format == "csv":
            yield to_csv([COLUMNS])
        first, end = HIGHEST, HIGHEST - 1
        if bounds and bounds["max"] is not None:
            first, end = bounds
        async for part in self._parts(queries, first - 1, end):
            self.rows += len(part)
            yield to_csv(row.values() for row in part) if self.format == "csv" else to_ndjson(part)

    async def _parts(self, queries: Queries, last: int, end: int) -> AsyncIterator[Sequence[Row]]:
        """Yield the rows, and what was archived before them or meanwhile, in the order of ids."""
        async for older, _ in self._archived(LOWEST_ID, last):
            yield older
        async for condition, values, passed in self._steps(queries, last, end):
            sql = select(SELECTED, f"{condition} ORDER BY id LIMIT {PAGE}")
            while last < passed:
                page = await queries.fetch(sql, last, *values)
                up_to = page[-1]["id"] if len(page) == PAGE else passed
                reached = last
                async for older, passed_id in self._archived(last, up_to):
                    yield older
                    reached = passed_id
                if reached == last:
                    async for part in whole(queries, SELECTED, page):
                        yield part
                    reached = up_to
                self._progress(reached - last)
                last = reached
        async for older, _ in self._archived(last, end):
            yield older

    async def _archived(self, after: int, up_to: int) -> AsyncIterator[tuple[list[Row], int]]:
        """Yield rows of the archive, and the last id passed. It is looked at once rows of the table
        were read: who archives takes rows from there and names the file at the same time."""
        if self._archive is not None:
            async for part in self._archive.stream(self.filters, after, up_to):
                yield part

    async def _steps(
        self, queries: Queries, last: int, end: int
    ) -> AsyncIterator[tuple[str, list[Any], int]]:
        """Yield a condition for each part of the trail, its parameters from the second on (the
        first is the id before), and the last id of that part.

        Where few rows are chosen they are found by an index. Else no statement looks through more
        than a part, however few of its rows fit.
        """
        condition, values = self.filters.where(first=3)
        if not values:
            yield "id > $1 AND id <= $2", [end], end
            return
        found = list[Any]()
        along = Along(self.filters, await fewest(queries, self.filters), None, found)
        sql = f"SELECT id FROM audit_logs WHERE {along.condition} LIMIT {FEW + 1}"  # noqa: S608
        ids = sorted(row["id"] for row in await queries.fetch(sql, *found))
        if len(ids) <= FEW:
            for part in (ids[n : n + PAGE] for n in range(0, len(ids), PAGE)):
                if (up_to := min(part[-1], end)) >= part[0]:
                    fits = f"id > $1 AND id = any($2::bigint[]) AND id <= {up_to} AND {condition}"
                    yield fits, [part, *values], up_to
            return
        # Of `IS TRUE` PostgreSQL makes no use: it reads along the ids, whatever it knows of values.
        fits = f"id > $1 AND id <= $2 AND ({condition}) IS TRUE"
        while last < end:
            up_to = await queries.fetchval(STEP, last, end) or end
            yield fits, [up_to, *values], up_to
            last = up_to

    async def record(self) -> None:
        """Put the export on the trail: call it when it has ended, however it did."""
        await self._record("audit.export", rows=self.rows)

    async def _record(self, action: str, **details: Any) -> None:
        filters = {
            name: value.isoformat() if isinstance(value, datetime) else value
            for name, value in self.filters.given().items()
        }
        details = {"filters": filters, "format": self.format, **details}
        await record(self.db, action, "audit_logs", details=details)


def to_ndjson(rows: Sequence[Row]) -> bytes:
    """Return one JSON object a line."""
    return "".join(f"{_json(row)}\n" for row in rows).encode()


def _json(row: Row) -> str:
    # `details` is JSON already, as PostgreSQL wrote it: not a digit of a number is lost.
    fields = dict(row)
    details = fields.pop("details") or "null"
    return f'{encode(fields)[:-1]}, "details": {details}}}'


def to_csv(rows: Iterable[Iterable[Any]]) -> bytes:
    """Return lines as of RFC 4180.

    A cell that a spreadsheet would calculate is kept from it by an «'».
    """
    out = io.StringIO()
    csv.writer(out).writerows([_cell(value) for value in row] for row in rows)
    return out.getvalue().encode()


def _cell(value: Any) -> Any:
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value
