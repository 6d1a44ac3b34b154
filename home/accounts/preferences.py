"""A person's preferences: one JSON object, replaced or merged, never lost to a second tab.

The statements that write carry the actor themselves, which saves a transaction's round trips: the
setting is local to the statement's own, at whose end the row trigger reads it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from audit.context import Actor, actor_json, current_actor
from audit.database import Database
from audit.errors import GroundworkError

MAX_BYTES = 64 * 1024
EMPTY = "{}"
READ = """
    SELECT preferences::text AS text, md5(preferences::text) AS etag
    FROM user_preferences WHERE user_id = $1
"""
NOTHING = "SELECT $1::text AS text, md5($1::text) AS etag"
# Nearly always the session is good and the row is there: then this is all, session check included.
REPLACE_OWN = """
    WITH found AS (
        SELECT id, ($1::jsonb || jsonb_build_object('actor', email, 'user_id', id))::text AS actor
        FROM signed_in WHERE sid = $2 AND NOT needs_touch
    ), me AS MATERIALIZED (
        SELECT id, set_config('groundwork.actor', actor, true) FROM found
    )
    UPDATE user_preferences SET preferences = $3::jsonb FROM me
    WHERE user_id = me.id AND ($4::text IS NULL OR md5(preferences::text) = $4)
    RETURNING preferences::text AS text, md5(preferences::text) AS etag
"""
UPSERT = """
    WITH actor AS MATERIALIZED (SELECT set_config('groundwork.actor', $1, true))
    INSERT INTO user_preferences AS old (user_id, preferences)
    SELECT $2, $3::jsonb FROM actor
    WHERE $4::text IS NULL OR $4 = md5('{}')
       OR EXISTS (SELECT FROM user_preferences WHERE user_id = $2)
    ON CONFLICT (user_id) DO UPDATE SET preferences = excluded.preferences
    WHERE $4::text IS NULL OR md5(old.preferences::text) = $4
    RETURNING preferences::text AS text, md5(preferences::text) AS etag
"""


class Changed(GroundworkError):
    """This was changed meanwhile.

    By somebody else, or by the same person elsewhere.
    """

    status, code = 412, "precondition_failed"


class TooLarge(GroundworkError):
    """This is more than can be stored."""

    status, code = 413, "too_large"


@dataclass(frozen=True)
class Preferences:
    """The object as JSON text, and the tag of this version."""

    text: str
    etag: str


async def read(db: Database, user_id: int) -> Preferences:
    """Return what is stored, or an empty object."""
    row = await db.fetchrow(READ, user_id) or await db.fetchrow(NOTHING, EMPTY)
    assert row is not None
    return Preferences(row["text"], row["etag"])


async def replace_own(
    db: Database, sid: str, content: dict[str, Any], etag: str | None
) -> Preferences | None:
    """Replace the preferences of whoever has this session, in one statement.

    Returns:
        None where that is not all there is to it, and `replace` has to say why.
    """
    text, actor = _rendered(content), current_actor() or Actor("anonymous")
    row = await db.fetchrow(REPLACE_OWN, actor_json(actor), sid, text, etag)
    return Preferences(row["text"], row["etag"]) if row else None


async def replace(
    db: Database, user_id: int, content: dict[str, Any], etag: str | None
) -> Preferences:
    """Store another object.

    Args:
        etag: of the version that the caller knows; None replaces any.

    Raises:
        Changed: the stored version is another one; nothing was changed.
        TooLarge: the object is too large.
    """
    text, actor = _rendered(content), current_actor()
    row = await db.fetchrow(UPSERT, actor and actor_json(actor), user_id, text, etag)
    if row is None:
        raise Changed
    return Preferences(row["text"], row["etag"])


async def merge(db: Database, user_id: int, patch: dict[str, Any], etag: str | None) -> Preferences:
    """Apply a JSON merge patch (RFC 7396).

    Raises:
        Changed: as in `replace`; without an etag it is applied to the newest version.
        TooLarge: the merged object is too large.
    """
    while True:
        known = await read(db, user_id)
        merged = _merged(json.loads(known.text), patch)
        try:
            return await replace(db, user_id, merged, etag or known.etag)
        except Changed:
            if etag is not None:
                raise


def _rendered(content: dict[str, Any]) -> str:
    text = json.dumps(content, separators=(",", ":"))
    if len(text) > MAX_BYTES:
        raise TooLarge
    return text


def _merged(target: Any, patch: Any) -> Any:
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = _merged(result.get(name), value)
    return result
