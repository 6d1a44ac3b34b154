"""The trail as a file: NDJSON or CSV, in the order of ids, as many rows as there are."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Literal, get_args

from audit.database import Database, Queries, Record
from audit.filters import Filters
from audit.paging import PAGE, select, whole
from audit.record import record

Format = Literal["ndjson", "csv"]
FORMATS: tuple[str, ...] = get_args(Format)

COLUMNS = (
    "id",
    "created_at",
    "actor",
    "user_id",
    "action",
    "resource",
    "resource_id",
    "details",
    "ip_address",
    "request_id",
    "is_admin_action",
)
# ISO 8601 whatever the session's settings are, and however far away the date is.
CREATED_AT = "(to_json(created_at AT TIME ZONE 'UTC') #>> '{}') || 'Z' AS created_at"
SELECTED = tuple(CREATED_AT if column == "created_at" else column for column in COLUMNS)
# What a spreadsheet takes for the beginning of a formula (OWASP, «CSV injection»).
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")

encode = json.JSONEncoder(ensure_ascii=False).encode


class Export:
    """One export; `rows` is the number of those delivered so far.

    Args:
        progress: called with the number of ids that each step has passed.
    """

    def __init__(
        self,
        db: Database,
        filters: Filters,
        format_: Format = "ndjson",
        progress: Callable[[int], None] = lambda ids: None,
    ) -> None:
        self.db = db
        self.filters = filters
        self.format: Format = format_
        self.rows = 0
        self._progress = progress

    async def chunks(self, connection: Queries | None = None) -> AsyncIterator[bytes]:
        """Yield the file in UTF-8, in pieces of up to 500 rows or 8 MB, or one row.

        First it puts on the trail that an export begins: one that is killed leaves that record. A
        connection is held while a page is read, not while a slow client takes it. Rows that come in
        meanwhile are left out.

        Args:
            connection: to use instead of one from the pool for each page.
        """
        queries = connection or self.db
        bounds = await queries.fetchrow("SELECT min(id), max(id) FROM audit_logs")
        await self._record("audit.export_started")
        if self.format == "csv":
            yield to_csv([COLUMNS])
        last, end = ((bounds["min"] or 0) - 1, bounds["max"] or 0) if bounds else (0, 0)
        condition, values = self.filters.where(first=4)
        sql = select(SELECTED, f"id > $1 AND id <= $2 AND {condition} ORDER BY id LIMIT $3")
        while page := await queries.fetch(sql, last, end, PAGE, *values):
            async for part in whole(queries, SELECTED, page):
                self.rows += len(part)
                yield to_csv(part) if self.format == "csv" else to_ndjson(part)
            self._progress(page[-1]["id"] - last)
            last = page[-1]["id"]

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


def to_ndjson(rows: Sequence[Record | Mapping[str, Any]]) -> bytes:
    """Return one JSON object a line."""
    return "".join(f"{_json(row)}\n" for row in rows).encode()


def _json(row: Record | Mapping[str, Any]) -> str:
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
