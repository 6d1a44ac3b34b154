"""What administrators decide about people: one at a time, or many in one transaction.

Whoever can be decided about is; each refusal is told with its reason. What is checked is checked by
the statement that acts, on rows that it has locked: another administrator may be faster.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

from audit.context import acting_as, current_actor
from audit.database import Record
from audit.errors import Refused
from home.accounts.people import ALL, Filter
from home.database.engine import Engine

MOST_IDS = 500
NAMED = 100  # refusals, or people on a page that asks
PATIENCE_SECONDS = 120  # a hundred thousand people take some fifteen
NOBODY_CHOSEN = "Choose somebody first."


class Decision(NamedTuple):
    """Something that an administrator can decide.

    Args:
        verb: for buttons and questions, such as "Approve".
        done: for what was done: "Approved 2 people".
        about: what follows from it.
        columns: what is set; empty where sessions end, and nothing else.
        outcome: what is said of one person then.
        at_once: without asking again.
    """

    name: str
    verb: str
    done: str
    about: str
    columns: dict[str, bool]
    outcome: str
    at_once: bool = False


DECISIONS = {
    each.name: each
    for each in (
        Decision(
            "approve", "Approve", "Approved", "They can sign in.",
            {"is_approved": True, "is_disabled": False},
            "is approved and can sign in.", at_once=True,
        ),
        Decision(
            "reject", "Reject", "Rejected",
            "They stay out until somebody approves. Sessions end at once; nothing is deleted.",
            {"is_approved": False, "is_disabled": True},
            "is rejected, and stays out until somebody approves.",
        ),
        Decision(
            "disable", "Disable", "Disabled",
            "They cannot sign in until somebody enables them. Sessions end at once; nothing is"
            " deleted.",
            {"is_disabled": True},
            "is disabled. All their sessions have ended.",
        ),
        Decision(
            "enable", "Enable", "Enabled",
            "Who was approved can sign in again; who was rejected waits for approval.",
            {"is_disabled": False},
            "is enabled again.",
        ),
        Decision(
            "end_sessions", "End sessions of", "Ended the sessions of",
            "They are signed out on all their devices, and can sign in again.",
            {},
            "has been signed out.",
        ),
    )
}  # fmt: skip

REASONS = {
    "no_administrator": "You are not an administrator any more.",
    "last_superuser": "The last active superuser stays: appoint another one first.",
    "yourself": "This is you. Your own sessions are on your account page; another administrator"
    " decides about you.",
    "administrator": "Only superusers decide about administrators.",
    "gone": "There is no such account any more.",
    "waiting": "Waits for approval now.",
    "active": "Is approved and active already.",
    "rejected": "Is rejected already.",
    "disabled": "Is disabled already.",
}
STATE = """
    CASE WHEN is_disabled THEN CASE WHEN is_approved THEN 'disabled' ELSE 'rejected' END
         WHEN is_approved THEN 'active' ELSE 'waiting' END
"""
# Of whom it is about: why not, or NULL. $1 is who decides; about themselves they only decide
# what is true already.
JUDGED = f"""
    WITH actor AS (
        SELECT id, is_superuser FROM users
        WHERE id = $1 AND is_admin AND is_approved AND NOT is_disabled
    ), chosen AS MATERIALIZED (
        SELECT users.id, email, display_name, is_admin, is_superuser, is_approved, is_disabled,
               ({{expected}}) AS is_expected, ({{already}}) AS is_already
        FROM users WHERE {{which}} ORDER BY users.id {{lock}}
    ), judged AS MATERIALIZED (
        SELECT chosen.id, email, display_name, CASE
            WHEN actor.id IS NULL THEN 'no_administrator'
            WHEN NOT is_expected OR is_already THEN {STATE}
            WHEN chosen.id = $1 THEN CASE
                WHEN chosen.is_superuser AND {{removes}} AND NOT EXISTS (
                    SELECT FROM users AS other WHERE other.id <> chosen.id AND other.is_superuser
                    AND other.is_approved AND NOT other.is_disabled)
                THEN 'last_superuser' ELSE 'yourself' END
            WHEN (is_admin OR chosen.is_superuser) AND NOT actor.is_superuser THEN 'administrator'
        END AS reason
        FROM chosen LEFT JOIN actor ON true
    )
"""  # noqa: S608  constants only
DONE = """, done AS ({acts})
    SELECT (SELECT count(*) FROM done) AS changed, found.* FROM found
"""
ASKED = " SELECT 0 AS changed, found.* FROM found"
FOUND = f""", found AS (
    SELECT count(*) FILTER (WHERE reason IS NULL) AS possible,
           count(*) FILTER (WHERE reason IS NOT NULL) AS refused,
           (SELECT json_agg(t) FROM (
               SELECT id, email, display_name FROM judged WHERE reason IS NULL
               ORDER BY id DESC LIMIT {{named}}) AS t)::text AS people,
           (SELECT json_agg(t) FROM (
               SELECT id, email, display_name, reason FROM judged WHERE reason IS NOT NULL
               ORDER BY id DESC LIMIT {MOST_IDS}) AS t)::text AS refusals
    FROM judged
)"""  # noqa: S608  constants only


class Refusal(NamedTuple):
    """Somebody about whom it was not done.

    Args:
        reason: one of REASONS.
        email: None where there is no such account.
    """

    id: int
    email: str | None
    reason: str

    @property
    def sentence(self) -> str:
        """Return the reason in words."""
        return REASONS[self.reason]


class Outcome(NamedTuple):
    """The outcome of a decision, or what it would be.

    Args:
        done: to how many people it was; `people` names some of them, the newest first.
        refused: the number of the others; `refusals` names some of them.
        sessions: how many ended, where that was the decision.
    """

    done: int
    people: list[dict[str, Any]]
    refused: int
    refusals: list[Refusal]
    sessions: int = 0


async def decide(
    db: Engine, by: int, decision: Decision, about: Sequence[int] | Filter, expected: Filter
) -> Outcome:
    """Decide about people, in one transaction; who cannot be decided about is left out, and named.

    Args:
        by: the id of who decides.
        about: ids, or all that match; these are not loaded.
        expected: where the people are named by ids: who is not in its group any more is refused.

    Raises:
        Refused: nobody, or too many, are chosen.
    """
    sql, args = _query(by, decision, about, expected, acts=True)
    with _in_the_back_office():
        async with db.transaction(), db.connection() as connection:
            row = await connection.fetchrow(sql, *args, timeout=PATIENCE_SECONDS)
    return _outcome(row, about, decision)


async def preview(
    db: Engine, by: int, decision: Decision, about: Sequence[int] | Filter, expected: Filter
) -> Outcome:
    """Return what `decide` would do now, and do nothing."""
    sql, args = _query(by, decision, about, expected, acts=False)
    async with db.connection() as connection:
        row = await connection.fetchrow(sql, *args, timeout=PATIENCE_SECONDS)
    return _outcome(row, about, decision)


async def decide_about_one(db: Engine, by: int, decision: Decision, person_id: int) -> Outcome:
    """Decide about one person, whatever they are now. `done` is 0 where nothing was left to do.

    Raises:
        Refused: the message says why.
    """
    outcome = await decide(db, by, decision, [person_id], Filter(ALL))
    for refusal in outcome.refusals:
        if refusal.reason not in ("waiting", "active", "rejected", "disabled"):
            raise Refused(refusal.sentence)
    return outcome


def _in_the_back_office() -> AbstractContextManager[Any]:
    actor = current_actor()
    return nullcontext() if actor is None else acting_as(actor._replace(is_admin_action=True))


def _query(
    by: int, decision: Decision, about: Sequence[int] | Filter, expected: Filter, *, acts: bool
) -> tuple[str, list[Any]]:
    args: list[Any] = [by]
    if isinstance(about, Filter):
        which, group, named = about.sql(args), "true", NAMED
    else:
        if not about:
            raise Refused(NOBODY_CHOSEN)
        if len(about) > MOST_IDS:
            raise Refused(f"Choose at most {MOST_IDS} people at once.")
        args.append(list(about))
        which, group, named = f"users.id = ANY(${len(args)})", expected.group.condition, MOST_IDS
    columns = decision.columns
    already = " AND ".join(f"{name} = {value}" for name, value in columns.items()) or "false"
    sql = JUDGED.format(
        which=which, expected=group, already=already, removes="true" if columns else "false",
        lock="FOR NO KEY UPDATE OF users" if acts else "",
    ) + FOUND.format(named=named)  # fmt: skip
    if not acts:
        return sql + ASKED, args
    return sql + DONE.format(acts=_acts(columns)), args


def _acts(columns: dict[str, bool]) -> str:
    if not columns:
        return (
            "DELETE FROM sessions USING judged"
            " WHERE user_id = judged.id AND reason IS NULL RETURNING 1"
        )
    values = ", ".join(f"{name} = {value}" for name, value in columns.items())
    whom = "users.id = judged.id AND reason IS NULL RETURNING 1"
    return f"UPDATE users SET {values} FROM judged WHERE {whom}"  # noqa: S608  constants only


def _outcome(row: Record | None, about: Sequence[int] | Filter, decision: Decision) -> Outcome:
    assert row is not None
    people = json.loads(row["people"] or "[]")
    refusals = [
        Refusal(each["id"], each["email"], each["reason"])
        for each in json.loads(row["refusals"] or "[]")
    ]
    gone = list[Refusal]()
    if not isinstance(about, Filter):
        there = {each["id"] for each in people} | {each.id for each in refusals}
        gone = [Refusal(each, None, "gone") for each in about if each not in there]
    sessions = 0 if decision.columns else row["changed"]
    refused = row["refused"] + len(gone)
    return Outcome(row["possible"], people, refused, [*refusals, *gone], sessions)
