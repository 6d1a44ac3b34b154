"""People as administrators look for them: groups, words, and pages of 50, the newest first."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from audit.database import Database, Queries, Record
from audit.ids import id_of

PAGE = 50
COUNTED = 10_000  # more than these are not counted
COUNTED_IN_SEARCH = 500  # each costs taking a name to words
LONGEST_SEARCH = 255
MOST_WORDS = 8
LAST_ID = 2**31 - 1

# The ends of words, see the SQL function users_words_v1.
_ENDS = str.maketrans(dict.fromkeys("@._-+'\"()<>[]{}|&!:*/\\,;=~#%^$?`", " "))

COLUMNS = """
    users.id, email, display_name, organization, is_admin, is_superuser, is_auditor, is_service,
    is_approved, is_disabled, approved_at, approved_by, last_login_at, users.created_at
"""


class Group(NamedTuple):
    """Some of the people: a tab of the page.

    Args:
        name: in addresses.
        condition: in SQL, of a row of `users`; constant.
    """

    name: str
    title: str
    condition: str


WAITING = Group("waiting", "Waiting", "NOT is_approved AND NOT is_disabled")
ALL = Group("all", "All", "true")
GROUPS = (
    WAITING,
    Group("active", "Active", "is_approved AND NOT is_disabled"),
    Group("disabled", "Disabled", "is_disabled"),
    Group("administrators", "Administrators", "is_admin"),
)


def groups_with(others: Iterable[Group]) -> dict[str, Group]:
    """Return all groups by name: ours, those of other apps, and everybody."""
    return {group.name: group for group in (*GROUPS, *others, ALL)}


@dataclass(frozen=True)
class Filter:
    """A choice of people: those of a group whose name or address has these words.

    Args:
        until: the newest account that was there when somebody looked; later ones do not match.
    """

    group: Group = ALL
    search: str = ""
    until: int = LAST_ID

    def sql(self, args: list[Any]) -> str:
        """Return the condition; its parameters are added to `args`."""
        parts = [f"({self.group.condition})"]
        if self.search:
            args.append(words_of(self.search))
            words = f"to_tsquery('simple', ${len(args)})"
            parts.append(f"users_words_v1(display_name, email) @@ {words}")
        if self.until < LAST_ID:
            args.append(self.until)
            parts.append(f"users.id <= ${len(args)}")
        return " AND ".join(parts)


def cleaned(search: str) -> str:
    """Return what was typed in one line, without what nobody can see; at most 255 characters."""
    shown = "".join(each if each.isprintable() else " " for each in search[:LONGEST_SEARCH])
    return " ".join(shown.split())


def words_of(search: str) -> str:
    """Return the query for PostgreSQL's full text search: every word, or its beginning, is there.

    Of what has no letters and digits at all it is empty, and finds nobody.
    """
    words = search.translate(_ENDS).split()[:MOST_WORDS]
    return " & ".join(f"'{word}':*" for word in words)


async def page_of(
    db: Database, chosen: Filter, before: int = LAST_ID, size: int = PAGE
) -> tuple[list[Record], int | None]:
    """Return a page of people, the newest first, and the id before which the next one begins.

    Args:
        before: the id of the last person of the page before.
    """
    sql, args = page_sql(chosen, before, size + 1)
    rows = await db.fetch(sql, *args)
    return rows[:size], rows[size - 1]["id"] if len(rows) > size else None


def page_sql(chosen: Filter, before: int, limit: int) -> tuple[str, list[Any]]:
    """Return the query of a page, and its parameters."""
    args: list[Any] = [before]
    sql = f"""
        SELECT {COLUMNS} FROM users WHERE {chosen.sql(args)} AND users.id < $1
        ORDER BY users.id DESC LIMIT {limit}
    """  # noqa: S608  constants, and numbers
    return sql, args


async def counts(db: Database, groups: Iterable[Group], search: str = "") -> list[int]:
    """Return how many people are in each group, but no more than `most_counted(search)` + 1."""
    args: list[Any] = []
    most = most_counted(search) + 1
    some = [
        f"SELECT FROM users WHERE {Filter(group, search).sql(args)} LIMIT {most}"
        for group in groups
    ]
    each = ", ".join(f"(SELECT count(*) FROM ({sql}) AS _)" for sql in some)  # noqa: S608
    row = await db.fetchrow(f"SELECT {each}", *args)
    assert row is not None
    return list(row.values())


def most_counted(search: str) -> int:
    """Return up to how many people are counted; beyond there are "more than" so many."""
    return COUNTED_IN_SEARCH if search else COUNTED


async def newest_id(db: Database) -> int:
    """Return the id of the newest account: those that come later were not there yet."""
    return await db.fetchval("SELECT coalesce(max(id), 0) FROM users") or 0


async def find(queries: Queries, person_id: int) -> Record | None:
    """Return one person, with who approved them."""
    if not 0 < person_id <= LAST_ID:
        return None
    return await queries.fetchrow(
        f"""
        SELECT {COLUMNS}, credentials_version,
               (SELECT by.email FROM users AS by WHERE by.id = users.approved_by) AS approver,
               EXISTS (SELECT FROM authenticator_secrets WHERE user_id = users.id) AS has_factor,
               password_hash <> '' AS has_password
        FROM users WHERE users.id = $1
        """,  # noqa: S608  constants only
        person_id,
    )


def state_of(row: Record) -> str:
    """Return "waiting", "active", "rejected" or "disabled"."""
    if row["is_disabled"]:
        return "disabled" if row["is_approved"] else "rejected"
    return "active" if row["is_approved"] else "waiting"


def name_of(row: Record) -> str:
    """Return what a person is called in a sentence: the address, which nobody else has."""
    return str(row["email"])


def ids_of(values: Sequence[str]) -> list[int]:
    """Return the ids among what a form sent; what is no id of anybody is left out."""
    return list(dict.fromkeys(number for value in values if (number := id_of(value, LAST_ID))))
