"""Rows of the trail in words: one line for each, whatever the table is.

`tell` says what happened as clauses with a place for the record ("made {} an administrator") and
as changes ("is_admin no → yes"). Apps bring `Words` about their own tables; for others there are
plain ones.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias

from audit.database import Queries, Record
from audit.printable import printable

LONGEST = 80  # characters of a value in a line
MASK = "***"

Row: TypeAlias = Record | Mapping[str, Any]
# For a column: what it means when it becomes true, and false; or what any change of it means; or ""
# where another column says it. For an action: a clause.
Phrase: TypeAlias = str | tuple[str, str]
Names: TypeAlias = Callable[[Queries, Sequence[str]], Awaitable[Mapping[str, str]]]

ACTIONS = {
    "insert": "added {}",
    "update": "changed {}",
    "delete": "removed {}",
    "truncate": "removed all rows of {}",
}
# What acts without being a person who is signed in, by the part of its name before the colon.
PROGRAMS = {
    "anonymous": "Somebody not signed in",
    "cli": "{} at a terminal",
    "db": "{} (plain SQL)",
    "provider": "{} (identity provider)",
    "sync": "{} sync",
    "system": "The application ({})",
}


@dataclass(frozen=True)
class Words:
    """The words that an app has for rows of the trail.

    Args:
        phrases: by the action, by `<table>.<column>` for changes of a column, or by
            `<action>.<detail>` for a detail that is not to be shown; `{}` is the record.
        links: the page of a record, by table, such as `/tools/{}`.
        names: functions that return the names of records by their keys, by table; they are asked
            for those of one page at a time.
    """

    phrases: Mapping[str, Phrase] = field(default_factory=dict)
    links: Mapping[str, str] = field(default_factory=dict)
    names: Mapping[str, Names] = field(default_factory=dict)

    def __or__(self, other: Words) -> Words:
        """Return both; what is in the other one wins."""
        return Words(
            {**self.phrases, **other.phrases},
            {**self.links, **other.links},
            {**self.names, **other.names},
        )


OWN = Words(
    phrases={
        "audit.export_started": "began to export the trail",
        "audit.export": "exported the trail",
        "audit.verify": "verified the trail",
        "audit.prune": "removed old rows of the trail",
        "audit.erase": "erased {}",
        "audit.evidence": "took the trail away, with what proves it",
        "audit.seals_exported": "took the seals away",
    }
)


class Change(NamedTuple):
    """A column before and after, in words; `before` is None where there was no row, or an event."""

    name: str
    before: str | None
    after: str | None
    is_told: bool = False


class Told(NamedTuple):
    """A row of the trail in words.

    Args:
        clauses: with `{}` where the record is to stand, or without.
        changes: of columns, or the details of an event; each value cut to a line.
    """

    clauses: list[str]
    changes: list[Change]


def tell(row: Row, phrases: Mapping[str, Phrase]) -> Told:
    """Return in words what a row of the trail says, without who did it.

    Args:
        row: with `action`, `resource`, `resource_id` and `details`, which is JSON as text, or None.
    """
    action, resource = row["action"], row["resource"] or ""
    kind = action.removeprefix(f"{resource}.") if resource else action
    before, after = sides(details_of(row))
    if kind == "update" and action not in phrases:
        return _updated(resource, before, after, phrases)
    phrase = phrases.get(action)
    clause = phrase if isinstance(phrase, str) else ACTIONS.get(kind)
    if clause is None:
        clause = action.replace("_", " ").replace(".", ": ").replace("{", "").replace("}", "")
        clause += " {}" if resource or row["resource_id"] else ""
    if kind in ("insert", "delete"):
        return Told([clause], [])
    return Told([clause], _changes(action, before, after, phrases))


def _updated(
    table: str,
    before: Mapping[str, Any] | None,
    after: Mapping[str, Any] | None,
    phrases: Mapping[str, Phrase],
) -> Told:
    clauses = list[str]()
    for name, value in (after or {}).items():
        phrase = phrases.get(f"{table}.{name}")
        if isinstance(phrase, tuple) and isinstance(value, bool):
            clauses.append(phrase[not value])
        elif isinstance(phrase, str) and phrase:
            clauses.append(phrase)
    return Told(clauses or [ACTIONS["update"]], _changes(table, before, after, phrases))


def _changes(
    table: str,
    before: Mapping[str, Any] | None,
    after: Mapping[str, Any] | None,
    phrases: Mapping[str, Phrase],
) -> list[Change]:
    found = list[Change]()
    for name in dict.fromkeys([*(before or {}), *(after or {})]):
        phrase = phrases.get(f"{table}.{name}")
        was, became = (None if side is None else value(side.get(name)) for side in (before, after))
        if phrase == "" or (was, became) == (MASK, MASK):
            continue
        found.append(Change(printable(name)[:LONGEST], was, became, phrase is not None))
    return found


def details_of(row: Row) -> Any:
    """Return the details of a row; None where they are left out, or longer than Python reads."""
    try:
        return json.loads(row["details"] or "null")
    except (ValueError, RecursionError):
        return None


def sides(details: Any) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
    """Return before and after; of an event only its details, as after."""
    if not isinstance(details, dict):
        return None, None if details is None else {"details": details}
    found = [details.get(side) for side in ("before", "after")]
    is_change = details.keys() <= {"before", "after"} and any(found)
    if not is_change or not all(side is None or isinstance(side, dict) for side in found):
        return None, details
    return found[0], found[1]


def value(of: Any, most: int = LONGEST) -> str:
    """Return a value in a line: text as it is, else in words or JSON; escaped, and cut if long."""
    if of is None or isinstance(of, bool):
        return {None: "—", True: "yes", False: "no"}[of]
    text = of if isinstance(of, str) else json.dumps(of, ensure_ascii=False)
    return cut(printable(text[: most + 1]), most) or "“”"


def cut(text: str, most: int) -> str:
    """Return a text of at most so many characters."""
    return text if len(text) <= most else text[: most - 1] + "…"


def actor_in_words(name: str | None) -> str:
    """Return who acted, as the trail names them, in words: "Directory sync"."""
    kind, colon, rest = (name or "").partition(":")
    rest = cut(printable(rest), LONGEST)
    if kind in PROGRAMS and (colon or kind == "anonymous"):
        return PROGRAMS[kind].format(rest[:1].upper() + rest[1:] if kind == "sync" else rest)
    return cut(printable(name), LONGEST) if name else "Unknown"
