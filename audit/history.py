"""What happened to one record, from the first change to the last."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

from audit.export import SELECT
from audit.seals import pages, transaction

HISTORY = f"{SELECT} WHERE resource = $1 AND resource_id = $2 ORDER BY id"


async def history_of(resource: str, resource_id: str) -> AsyncIterator[list[Any]]:
    """Its records on the trail, oldest first, in pages."""
    async with transaction("read_committed", readonly=True) as connection:
        async for page in pages(connection, HISTORY, resource, resource_id):
            yield page


def changes(row: Any) -> Iterator[str]:
    """The details of a record in words: «email: a@example.com → b@example.com»."""
    try:
        details = json.loads(row["details"] or "{}")
    except ValueError:  # more nested or longer than Python reads
        details = row["details"]
    if not isinstance(details, dict):
        yield printable(details)
        return
    if not details.keys() <= {"before", "after"}:
        yield from (f"{printable(name)}: {printable(value)}" for name, value in details.items())
        return
    before, after = details.get("before") or {}, details.get("after") or {}
    for name in {**before, **after}:
        was, became = printable(before.get(name)), printable(after.get(name))
        if "before" in details and "after" in details:
            yield f"{printable(name)}: {was} → {became}"
        else:
            yield f"{printable(name)}: {became if 'after' in details else was}"


def printable(value: Any) -> str:
    """A value in one line, as JSON unless it is text. Nothing that a terminal would obey."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode() for each in text
    )
