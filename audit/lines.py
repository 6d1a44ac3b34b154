"""Rows of the trail as lines of a page: who did what to which record, with names and links."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from audit.database import Queries
from audit.printable import printable
from audit.sentences import LONGEST, Change, Row, Words, actor_in_words, cut, tell

MOST_CHANGES = 4  # of a line


class Line(NamedTuple):
    """A row as a line of a page.

    Args:
        who: in words, and `who_link` leads to their page.
        parts: what was done: text, and None where the record stands.
        changes: a few of them; `more` are left out.
        record: its name, None where the row is about none, and `record_link` leads to it.
        is_plain_sql: it was not the application that did it.
    """

    row: Row
    who: str
    who_link: str | None
    parts: list[str | None]
    changes: list[Change]
    more: int
    record: str | None
    record_link: str | None
    is_plain_sql: bool

    @property
    def sentence(self) -> str:
        """The line as text, for whoever has no page."""
        what = "".join(part if part is not None else self.record or "" for part in self.parts)
        changes = [
            f"{c.name} {c.after}" if c.before is None else f"{c.name} {c.before} → {c.after}"
            for c in self.changes
        ]
        changes += [f"and {self.more} more"] if self.more else []
        address = self.row["ip_address"]
        said = f"{self.who} {what.strip()}" + (f": {', '.join(changes)}" if changes else "")
        return said + (f", from {printable(address)}" if address else "")


async def lines(db: Queries, rows: Sequence[Row], words: Words) -> list[Line]:
    """Return the rows of a page as lines; names are asked for once for each table.

    Args:
        rows: as `audit.reading.page` returns them.
    """
    keys: dict[str, set[str]] = {table: set() for table in words.names}
    for row in rows:
        if row["resource"] in keys and row["resource_id"] is not None:
            keys[row["resource"]].add(row["resource_id"])
        if row["user_id"] is not None and "users" in keys:
            keys["users"].add(str(row["user_id"]))
    names = {
        table: await words.names[table](db, sorted(found)) for table, found in keys.items() if found
    }
    return [line(row, words, names) for row in rows]


def line(row: Row, words: Words, names: Mapping[str, Mapping[str, str]]) -> Line:
    """Return a row as a line.

    Args:
        names: of records, by table and key.
    """
    told = tell(row, words.phrases)
    table, key, person = row["resource"] or "", row["resource_id"], row["user_id"]
    name = names.get(table, {}).get(key or "")
    actor = row["actor"] or ""
    who = names.get("users", {}).get(str(person)) or actor_in_words(actor)
    if person is not None and (by := actor.partition(" ")[2]):  # an address has no space
        who = f"{who}, {by}"
    link = words.links.get("users")
    record = cut(printable(name or " ".join(filter(None, (table, key)))), LONGEST) or None
    parts = [part for clause in _joined(told.clauses) for part in clause]
    return Line(
        row=row,
        who=cut(printable(who), LONGEST),
        who_link=link.format(person) if link and person is not None else None,
        parts=parts,
        changes=told.changes[:MOST_CHANGES],
        more=len(told.changes[MOST_CHANGES:]),
        record=record,
        record_link=_link(words, table, key, name),
        is_plain_sql=actor.startswith("db:"),
    )


def _joined(clauses: Iterable[str]) -> Iterable[list[str | None]]:
    """Yield clauses with None in the place of the record; after the first, "them"."""
    for number, clause in enumerate(clauses):
        before, place, after = clause.partition("{}")
        if number:
            yield [f" and {before}{'them' if place else ''}{after}"]
        else:
            yield [before, *([None, after] if place else [])]


def _link(words: Words, table: str, key: str | None, name: str | None) -> str | None:
    """Return the page of a record, where an app has one and knows the record."""
    link = words.links.get(table)
    is_known = name is not None or table not in words.names
    if link and key is not None and is_known and key.isascii() and key.isalnum():
        return link.format(key)
    return None
