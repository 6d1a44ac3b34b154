"""What happened to one record, from the first change to the last."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any

from audit.database import Database, Record
from audit.paging import trail_pages, transaction
from audit.printable import printable
from audit.rows import SELECTED

HISTORY = "resource = $1 AND resource_id = $2 ORDER BY id"


async def history_of(db: Database, resource: str, resource_id: str) -> AsyncIterator[list[Record]]:
    """Yield the records of a row, oldest first, in pages."""
    async with transaction(db, "read_committed", readonly=True) as connection:
        async for page in trail_pages(connection, SELECTED, HISTORY, resource, resource_id):
            yield page


def changes(row: Record | Mapping[str, Any]) -> Iterator[str]:
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


def print_plainly(row: Record | Mapping[str, Any]) -> None:
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

    def add(self, row: Record | Mapping[str, Any]) -> None:
        from rich.text import Text

        who = [row["created_at"][:19].replace("T", " "), printable(row["actor"])]
        who += [f"from {row['ip_address']}"] if row["ip_address"] else []
        what = [printable(row["action"]), *changes(row)]
        self.rows.add_row(Text("\n".join(who)), Text("\n".join(what)))

    def print(self) -> None:
        from rich.console import Console

        Console().print(self.rows)
