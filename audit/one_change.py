"""One row of the trail in full: before and after side by side, however large it is.

What is long is cut by the database: it writes out a value, and sends its beginning.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from difflib import SequenceMatcher
from typing import TYPE_CHECKING, Any, NamedTuple

from audit.database import Queries, Record
from audit.ids import HIGHEST
from audit.printable import printable
from audit.rows import SELECTED
from audit.sentences import MASK, Row, sides

if TYPE_CHECKING:
    from audit.archived import OldRows

MOST_BYTES = 200_000  # of details as text, to be read as a whole
MOST_SENT = 2**24  # of archived details, which are sent to the database to be cut
MOST_COLUMNS = 200
MOST_CHARACTERS = 4_000  # of a value
MOST_LINES = 200

COLUMNS = ", ".join(each for each in SELECTED if each != "details")
ROW = f"""
    SELECT {COLUMNS}, octet_length(written) AS bytes,
           CASE WHEN octet_length(written) <= {MOST_BYTES} THEN written END AS details
    FROM audit_logs, LATERAL (SELECT details::text AS written OFFSET 0) AS text
    WHERE id = $1
"""  # noqa: S608  constants only
PIECES = f"""
    SELECT side.key AS side, each.key AS name,
           left(each.value::text, {MOST_CHARACTERS + 1}) AS value
    FROM {{source}},
         LATERAL jsonb_each(CASE jsonb_typeof(details) WHEN 'object' THEN details
                            ELSE jsonb_build_object('details', details) END) AS side,
         LATERAL jsonb_each(CASE jsonb_typeof(side.value) WHEN 'object' THEN side.value
                            ELSE jsonb_build_object('', side.value) END) AS each
    LIMIT {2 * MOST_COLUMNS}
"""  # noqa: S608  constants only
LARGE = PIECES.format(source="(SELECT details FROM audit_logs WHERE id = $1) AS row")
LARGE_ARCHIVED = PIECES.format(source="(SELECT $1::jsonb AS details) AS row")
SEAL = """
    SELECT id, created_at FROM audit_seals
    WHERE last_id >= $1 ORDER BY last_id LIMIT 1
"""


class Part(NamedTuple):
    """A piece of a value, and whether it differs from the other side."""

    text: str
    is_changed: bool


class Column(NamedTuple):
    """A column before and after; None where that side has none.

    Args:
        is_secret: it changed, and its values are not in the trail.
        is_cut: what is shown is only the beginning.
    """

    name: str
    before: list[Part] | None
    after: list[Part] | None
    is_secret: bool = False
    is_cut: bool = False


class Change(NamedTuple):
    """A row in full.

    Args:
        bytes: of its details as text.
        is_event: it has details rather than before and after.
        left_out: whether there are more columns.
        seal: that covers it, with `id` and `created_at`; None: not sealed yet.
    """

    row: Row
    columns: list[Column]
    bytes: int
    is_event: bool
    left_out: bool
    seal: Record | None


async def change(db: Queries, id_: int, archive: OldRows | None = None) -> Change | None:
    """Return a row of the trail, if there is one with this id.

    Args:
        archive: where it is, perhaps.
    """
    row: Row | None = await db.fetchrow(ROW, id_) if id_ <= HIGHEST else None
    if row is None and archive is not None and id_ <= HIGHEST:
        row = await archive.row(id_)
        row = row and {**row, "bytes": len((row["details"] or "").encode()), "is_archived": True}
    if row is None:
        return None
    before, after = await _sides(db, row)
    names = list(dict.fromkeys([*(before or {}), *(after or {})]))
    columns = [_column(name, before, after) for name in names[:MOST_COLUMNS]]
    is_event = row["action"].rpartition(".")[2] not in ("insert", "update", "delete")
    seal = await db.fetchrow(SEAL, id_)
    size = row["bytes"] or 0
    return Change(row, columns, size, is_event, len(names) > MOST_COLUMNS, seal)


class Cut(str):
    """The beginning of a value, as PostgreSQL wrote it."""

    __slots__ = ()


async def _sides(
    db: Queries, row: Row
) -> tuple[Mapping[str, Any] | None, Mapping[str, Any] | None]:
    if row["bytes"] is None or row["bytes"] <= MOST_BYTES:
        try:
            return sides(json.loads(row["details"] or "null"))
        except (ValueError, RecursionError):  # longer or deeper than Python reads
            return None, {"details": Cut(row["details"])}
    if row["bytes"] > MOST_SENT and row["details"] is not None:
        return None, {"details": Cut(row["details"])}
    found: dict[str, dict[str, Any]] = {}
    is_archived = row["details"] is not None
    pieces = (LARGE_ARCHIVED, row["details"]) if is_archived else (LARGE, row["id"])
    for each in await db.fetch(*pieces):
        found.setdefault(each["side"], {})[each["name"]] = Cut(each["value"])
    if found.keys() <= {"before", "after"}:
        return found.get("before"), found.get("after")
    flat = {
        f"{side}.{name}" if name else side: value
        for side, values in found.items()
        for name, value in values.items()
    }
    return None, flat


def _column(name: str, before: Mapping[str, Any] | None, after: Mapping[str, Any] | None) -> Column:
    texts = [None if side is None else _unfolded(side.get(name)) for side in (before, after)]
    shown = [None if text is None else text[:MOST_CHARACTERS] for text in texts]
    is_cut = shown != texts
    lines = [None if text is None else text.split("\n") for text in shown]
    is_cut |= any(each is not None and len(each) > MOST_LINES for each in lines)
    was, became = (None if each is None else each[:MOST_LINES] for each in lines)
    if [MASK] in (was, became) and {*(was or [MASK]), *(became or [MASK])} <= {MASK, "—"}:
        return Column(printable(name)[:255], None, None, is_secret=True)
    parts = list(_marked(was, became))
    return Column(printable(name)[:255], parts[0], parts[1], is_cut=is_cut)


def _unfolded(value: Any) -> str:
    """Return a value as it is read: JSON with a line for each of its parts."""
    if value is None or isinstance(value, bool):
        return {None: "—", True: "yes", False: "no"}[value]
    if isinstance(value, Cut):
        return _escaped(value)
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, indent=2)
    return _escaped(text) or "“”"


def _escaped(text: str) -> str:
    """Return a text with its lines, and without what a browser would obey."""
    lines = text[: MOST_CHARACTERS + 1].split("\n")
    return "\n".join(printable(line) for line in lines)


def _marked(was: list[str] | None, became: list[str] | None) -> Iterator[list[Part] | None]:
    """Yield both sides in parts, those marked that differ."""
    if was is None or became is None:
        yield None if was is None else [Part("\n".join(was), False)]
        yield None if became is None else [Part("\n".join(became), False)]
        return
    codes = SequenceMatcher(None, was, became, autojunk=False).get_opcodes()
    yield _parts(was, [(kind != "equal", first, last) for kind, first, last, _, _ in codes])
    yield _parts(became, [(kind != "equal", first, last) for kind, _, _, first, last in codes])


def _parts(lines: list[str], spans: list[tuple[bool, int, int]]) -> list[Part]:
    return [
        Part("\n".join(lines[first:last]), changed)
        for changed, first, last in spans
        if first < last
    ]
