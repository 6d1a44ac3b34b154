"""Rows of the trail that are by or about a person."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias

from audit.database import Queries, Record
from audit.digests import WHAT, WHO

Side: TypeAlias = Mapping[str, Any]

LEAST_CHARACTERS = 5  # of a name to look for: shorter ones are words of others, too
# An anonymous failure to sign in to the account, with an address, was most likely the person.
FIND = f"""
    SELECT id, parts FROM (
        SELECT id,
               (CASE WHEN who_digest IS NULL AND (by_them OR about_them AND is_nobody)
                     THEN {WHO} ELSE 0 END)
               + (CASE WHEN what_digest IS NULL AND about_them THEN {WHAT} ELSE 0 END) AS parts
        FROM audit_logs,
        LATERAL (SELECT details::text AS written OFFSET 0) AS text,
        LATERAL (
            SELECT coalesce(actor, 'anonymous') = 'anonymous' AS is_nobody,
                   coalesce(user_id = $1 OR split_part(actor, ' ', 1) = any($2), false) AS by_them,
                   coalesce(resource = 'users' AND resource_id = $1::text, false)
                   OR coalesce(resource_id = any($2), false)
                   OR coalesce(resource = any($3) AND $1::text = any(ARRAY[
                          details -> 'before' ->> 'user_id', details -> 'after' ->> 'user_id'
                      ]), false)
                   OR coalesce(lower(written) LIKE any($4) AND lower(written) ~ $5, false)
                   AS about_them
            OFFSET 0
        ) AS is_it
    ) AS found
    WHERE parts > 0 ORDER BY id
"""  # noqa: S608  constants only


@dataclass
class Known:
    """What an app knows of a person.

    Args:
        names: how the trail calls them, such as e-mail addresses, also former ones.
        texts: other values that name them, such as their name.
        tables: whose rows, by `user_id`, are part of the account.
        rows: how many rows, by table, would be removed or changed.
    """

    names: set[str] = field(default_factory=set)
    texts: set[str] = field(default_factory=set)
    tables: set[str] = field(default_factory=set)
    rows: dict[str, int] = field(default_factory=dict)

    def add(self, other: Known) -> None:
        """Add what another app knows."""
        self.names |= other.names
        self.texts |= other.texts
        self.tables |= other.tables
        self.rows |= other.rows


class Eraser(Protocol):
    """What an app brings so that people can be erased from its tables: `App(erasers=...)`."""

    async def known(self, db: Queries, person: int, archived: Sequence[Side]) -> Known:
        """Return what it knows of a person; of the trail, too, once the account is gone.

        Args:
            archived: columns of the account before and after changes that were archived.
        """

    async def erase(self, db: Queries, person: int, known: Known, pseudonym: str) -> None:
        """Remove it, or put the pseudonym in its place; within the transaction that is open."""


async def rows_of(db: Queries, person: int, known: Known) -> list[tuple[int, int]]:
    """Return ids of rows by and about a person, and which of WHO and WHAT is about them there."""
    patterns, expression = sought(known)
    names, tables = sorted(known.names), sorted(known.tables)
    rows = await db.fetch(FIND, person, names, tables, patterns, expression)
    return [(row["id"], row["parts"]) for row in rows]


def parts_of(row: Record | Mapping[str, Any], person: int, known: Known) -> int:
    """Return which of WHO and WHAT of a row is about a person: as FIND, of rows that were archived.

    Args:
        row: of `audit.digests.ROW`, and `user_id`.
    """
    actor, details = row["actor"] or "anonymous", row["details"] or ""
    by_them = row["user_id"] == person or actor.split(" ")[0] in known.names
    about_them = (
        (row["resource"], row["resource_id"]) == ("users", str(person))
        or row["resource_id"] in known.names
        or (row["resource"] in known.tables and _is_of(details, person))
        or re.search(sought(known)[1], details.lower()) is not None
    )
    who = by_them or (about_them and actor == "anonymous")
    return (WHO if who and row["who_digest"] is None else 0) | (
        WHAT if about_them and row["what_digest"] is None else 0
    )


def _is_of(details: str, person: int) -> bool:
    """Return whether a row of a table, before or after, has this `user_id`."""
    found = json.loads(details) if details else None
    sides = [found.get(side) for side in ("before", "after")] if isinstance(found, dict) else []
    return any(isinstance(side, dict) and str(side.get("user_id")) == str(person) for side in sides)


def sought(known: Known) -> tuple[list[str], str]:
    """Return patterns for LIKE and a regular expression, for details in lower case that name a
    person: an address that stands by itself, or a name that is all of a value."""
    names = [in_json(name) for name in known.names]
    texts = [f'"{in_json(text)}"' for text in known.texts if len(text) >= LEAST_CHARACTERS]
    likes = [re.sub(r"([\\%_])", r"\\\1", each) for each in (*names, *texts)]
    parts = [rf"(^|[^a-z0-9._%+-]){literal(each)}($|[^a-z0-9-])" for each in names]
    parts += [literal(each) for each in texts]
    return [f"%{each}%" for each in likes], "|".join(parts)


def in_json(text: str) -> str:
    """Return a text as details hold it, in lower case."""
    return json.dumps(text, ensure_ascii=False)[1:-1].lower()


def literal(text: str) -> str:
    """Return a regular expression, for PostgreSQL and RE2, that fits just this text."""
    return re.sub(r"([^\w\s])", r"\\\1", text)
