"""Trails that are hard to keep as they are, and all that is read of one."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

from audit.archive.moving import archive_step
from audit.archive.reading import Archive
from audit.export import Export
from audit.filters import Filters
from audit.history import history_of
from audit.one_change import change
from audit.reading import page
from audit.seals import seal
from home.database.engine import Engine
from tests.audit.trails import KEYS

TOMORROW = datetime.now(UTC) + timedelta(days=1)
NASTY = [
    None, "", " ", "NULL", "\\N", "\\.", '"', '""', "a,b", "a\nb", "a\r\nb", "\r", '","x"\n"1","2',
    "\\", "ü€😀", "\u2028\x85\ufeff", "\x01\x1f\x7f", "'; DROP TABLE x --", "null", "e\u0301",
    "x" * 300,
]  # fmt: skip
INSERT = """
    INSERT INTO audit_logs (actor, action, resource, resource_id, details, ip_address, request_id,
                            is_admin_action, user_id, created_at)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
"""
OLD = datetime(2020, 1, 1, tzinfo=UTC)


async def nasty(db: Engine) -> None:
    """Rows with each of these in each column, at odd moments, not in the order of their ids."""
    for number, text in enumerate(NASTY):
        short = text and text[:40]
        details = json.dumps({"after": {"t": text, short or "": [1.50, None]}}, ensure_ascii=False)
        at = OLD + timedelta(hours=(number * 7) % 20, microseconds=number * 10)
        action = text[:90] if text is not None else "things.update"
        await db.execute(
            INSERT, text, action, short, text and text[:255], details if number % 3 else None,
            short, short, number % 2 == 0, None, at,
        )  # fmt: skip
    for moment in ("-infinity", "0044-03-15 12:00:00.5 BC", "0001-01-01", "1970-01-01"):
        values = f"""('x.update', '{{"after": {{"t": 1}}}}', '{moment}')"""
        await db.execute(f"INSERT INTO audit_logs (action, details, created_at) VALUES {values}")
    big = json.dumps({"before": {"text": "ä" * 200_000}, "after": {"text": "b\"'\n" * 9_000}})
    for size in (
        big,
        json.dumps({"after": {"text": "é" * 8_300}}),
        '{"n": 12345678901234567890.10}',
    ):
        await db.execute(INSERT, "big", "big.update", "big", "1", size, None, "r", False, None, OLD)
    await db.execute(
        INSERT, "a" * 20_000, "big.actor", "big", "1", None, None, "r", False, None, OLD
    )


async def moved(archive: Archive) -> None:
    """Seal what is there, and archive it."""
    await seal(archive.db, KEYS)
    while await archive_step(archive, KEYS, TOMORROW):
        pass


CHOICES = [
    Filters(), Filters(actor=""), Filters(actor="a\nb"), Filters(resource="big"),
    Filters(resource="big", resource_id="1"), Filters(column="t"), Filters(column="\r"),
    Filters(action="x.update"), Filters(since=OLD + timedelta(hours=3)),
    Filters(until=OLD + timedelta(hours=9), since=OLD + timedelta(microseconds=10)),
    Filters(ip_address="\\N"), Filters(request_id="r", action="big.update"),
    Filters(actor="nobody"), Filters(user_id=5),
]  # fmt: skip


def told(row: Any, *without: str) -> dict[str, Any]:
    names = ("is_large", "fits", "n", "is_end", "is_archived", "bytes", *without)
    return {name: value for name, value in dict(row).items() if name not in names}


async def everything(db: Engine, up_to: int, archive: Archive | None = None) -> list[Any]:
    """What pages, exports, histories and single rows say of the rows up to an id."""
    found: list[Any] = []
    for filters in CHOICES:
        before: int | None = None
        while True:
            part = await page(db, filters, before, 7, archive)
            found += [told(row) for row in part.rows if row["id"] <= up_to]
            if (before := part.next) is None:
                break
        chunks = [each async for each in Export(db, filters, archive=archive).chunks()]
        lines = b"".join(chunks).decode().split("\n")[:-1]
        found += [line for line in lines if json.loads(line)["id"] <= up_to]
        csv = [each async for each in Export(db, filters, "csv", archive=archive).chunks()]
        found.append(b"".join(csv).partition(b"audit.")[0] if filters.resource else b"")
    async for rows in history_of(db, "big", "1", archive):
        found += [told(row) for row in rows]
    for id_ in range(1, up_to + 1):
        one = await change(db, id_, archive)
        found.append(one and (told(one.row, "details"), one.columns, one.bytes, one.is_event))
    return found
