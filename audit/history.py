"""What happened to one record, from the first change to the last."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import TYPE_CHECKING

from audit.database import Database
from audit.filters import Filters
from audit.ids import HIGHEST
from audit.paging import trail_pages, transaction
from audit.printable import printable
from audit.rows import SELECTED
from audit.seals import LOWEST_ID
from audit.sentences import Row

if TYPE_CHECKING:
    from audit.archived import OldRows

HISTORY = "resource = $1 AND resource_id = $2 ORDER BY id"
LOWEST = "SELECT coalesce(min(id), $1) FROM audit_logs"


async def history_of(
    db: Database, resource: str, resource_id: str, archive: OldRows | None = None
) -> AsyncIterator[Sequence[Row]]:
    """Yield the records of a row, oldest first, in pages.

    Args:
        archive: where older ones may be.
    """
    # One moment for all of it: a row is in the table then, or before it in the archive.
    async with transaction(db, "repeatable_read", readonly=True) as connection:
        lowest = await connection.fetchval(LOWEST, HIGHEST)
        if archive is not None:
            filters = Filters(resource=resource, resource_id=resource_id)
            async for older, _ in archive.stream(filters, LOWEST_ID, lowest - 1):
                yield older
        async for page in trail_pages(connection, SELECTED, HISTORY, resource, resource_id):
            yield page


def changes(row: Row) -> Iterator[str]:
    """Yield the details of a record in words: «email: a@example.com → b@example.com»."""
    try:
        details = json.loads(row["details"] or "{}")
    except (ValueError, RecursionError):  # longer or deeper than Python reads
        details = row["details"]
    if not isinstance(details, dict):
        yield printable(details)
        return
    sides = [details[side] for side in ("before", "after") if side in details]
    if len(sides) != len(details) or not all(isinstance(side, dict) for side in sides):
        sides = [details]  # an event
    for name in dict.fromkeys(name for side in sides for name in side):
        values = " → ".join(printable(side.get(name)) for side in sides)
        yield f"{printable(name)}: {values}"


def print_plainly(row: Row) -> None:
    """Print a record, and a line for each change below it."""
    where = f" from {row['ip_address']}" if row["ip_address"] else ""
    print(f"{row['created_at']} {printable(row['actor'])} {printable(row['action'])}{where}")
    for change in changes(row):
        print(f"    {change}")


class HistoryTable:
    """Prints records for a person at a terminal, as a table."""

    def __init__(self) -> None:
        from rich.table import Table

        self.rows = Table("When and who", "What", show_lines=True)

    def add(self, row: Row) -> None:
        from rich.text import Text

        who = [row["created_at"][:19].replace("T", " "), printable(row["actor"])]
        who += [f"from {row['ip_address']}"] if row["ip_address"] else []
        what = [printable(row["action"]), *changes(row)]
        self.rows.add_row(Text("\n".join(who)), Text("\n".join(what)))

    def print(self) -> None:
        from rich.console import Console

        Console().print(self.rows)
