"""Tokens by which programs act for an account, within scopes and for a time."""

from __future__ import annotations

import re
import secrets
from collections.abc import Sequence
from enum import StrEnum
from typing import Any, NamedTuple

from audit.context import identify
from audit.database import Database
from audit.errors import GroundworkError, Refused
from audit.record import record
from home.accounts.failures import RecentFailures
from home.accounts.registration import create_approved
from home.accounts.sessions import SignedIn, digest, touch

PREFIX = "gw_"  # by which scanners of source code find one
TOKEN = re.compile(rf"{PREFIX}[A-Za-z0-9_-]{{43}}")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._-]{0,49}")
MOST_DAYS = 366
USUAL_DAYS = 90
TOKENS_PER_ACCOUNT = 50

# The fields of SignedIn, in their order, and three more. A token has no session.
FIND = """
    SELECT u.id, u.email, u.display_name, u.organization, u.is_admin, u.is_superuser, u.is_auditor,
           '' AS sid, t.name, t.scopes,
           t.last_used_at IS NULL OR t.last_used_at < now() - interval '1 minute' AS needs_touch
    FROM api_tokens t JOIN users u ON u.id = t.user_id
    WHERE t.digest = $1 AND t.expires_at > now() AND t.created_at < now() + interval '1 minute'
      AND u.is_approved AND NOT u.is_disabled
"""
TOUCH = """
    UPDATE api_tokens SET last_used_at = now()
    WHERE digest = $1 AND (last_used_at IS NULL OR last_used_at < now() - interval '1 minute')
"""
# One's own, or as an administrator those of a service account, as far as one decides about it. The
# account's row is held until the token is stored: what ends tokens comes before it or after it.
ACCOUNT = """
        SELECT u.id FROM users AS u
        WHERE u.id = $2 AND u.is_approved AND NOT u.is_disabled AND (
            $1::integer IS NULL
            OR NOT u.is_service AND u.id = $1 AND u.credentials_version = $3
            OR u.is_service AND EXISTS (
                SELECT FROM users AS by
                WHERE by.id = $1 AND by.is_admin AND by.is_approved AND NOT by.is_disabled
                  AND (by.is_superuser OR NOT u.is_admin)))
        FOR NO KEY UPDATE
"""
# A statement of its own, which sees what others have stored before the row was given.
CREATE = """
    INSERT INTO api_tokens (user_id, name, digest, scopes, expires_at)
    SELECT $1, $2, $3, $4, now() + make_interval(days => $5)
    WHERE (SELECT count(*) FROM api_tokens WHERE user_id = $1) < $6
    ON CONFLICT (user_id, name) DO NOTHING
    RETURNING id
"""
LIST = """
    SELECT id, name, scopes, created_at, expires_at, last_used_at, expires_at <= now() AS is_over
    FROM api_tokens WHERE user_id = $1 ORDER BY id DESC
"""
# As an administrator ends sessions, see home.accounts.rights; $1 is NULL at a terminal.
END = """
    DELETE FROM api_tokens WHERE id = $3 AND user_id = $2 AND (
        $1::integer IS NULL OR $1 = $2 OR EXISTS (
            SELECT FROM users AS by, users AS person
            WHERE by.id = $1 AND by.is_admin AND by.is_approved AND NOT by.is_disabled
              AND person.id = $2
              AND (by.is_superuser OR NOT (person.is_admin OR person.is_superuser))))
    RETURNING id
"""
END_ALL = "DELETE FROM api_tokens WHERE user_id = $1 RETURNING id"


class Scope(StrEnum):
    """A part of the API that a token opens."""

    READ = "read"
    WRITE = "write"
    SYNC = "sync"
    TRAIL = "trail"


class WrongToken(GroundworkError):
    """This token opens nothing: it is wrong, over, or its account is kept out."""

    status, code = 401, "invalid_token"


class Holder(NamedTuple):
    """Whoever a token stands for.

    Args:
        name: of the token.
        scopes: that it has.
    """

    person: SignedIn
    name: str
    scopes: Sequence[str]


failures = RecentFailures()


async def authenticate(db: Database, token: str) -> Holder:
    """Return whom a token stands for; from here on, what happens is done by it.

    Raises:
        WrongToken: it opens nothing; this was recorded.
        TooManyFailures: too many others of this address did not, either.
    """
    row = await db.fetchrow(FIND, digest(token)) if TOKEN.fullmatch(token) else None
    if row is None:
        await refuse(db)
        raise WrongToken
    *fields, name, scopes, needs_touch = row.values()
    if needs_touch:
        await touch(db, TOUCH, digest(token))
    person = SignedIn(*fields)
    identify(f"{person.email} token:{name}", person.id)
    return Holder(person, name, scopes)


async def refuse(db: Database, scope: str | None = None) -> None:
    """Record that a token was refused.

    Args:
        scope: that it lacks; None is for a token that opens nothing.

    Raises:
        TooManyFailures: too many others of this address were refused, too.
    """
    lacks = {"lacks": scope} if scope else {}
    details = {"network": failures.count(), **lacks}
    await record(db, "token.refused", "token", details=details)


async def create(
    db: Database,
    by: int | None,
    user_id: int,
    name: str,
    scopes: Sequence[str],
    days: int,
    version: int | None = None,
) -> str:
    """Store a new token; return it, to be told once.

    Args:
        by: who asks; None at a terminal, where everything may be done.
        name: what it is for, as the trail shows it; another one for each token of an account.
        days: until it is over.
        version: of the account whose password was confirmed, for a token of one's own.

    Raises:
        Refused: something is wrong with these, or who asks may not.
    """
    if not NAME.fullmatch(name):
        raise Refused("A name has at most 50 letters, digits, spaces and . _ -")
    known = [scope for scope in Scope if scope in scopes]
    if not known or len(known) != len({*scopes}):
        raise Refused(f"Choose scopes out of {', '.join(Scope)}.")
    if not 1 <= days <= MOST_DAYS:
        raise Refused(f"A token is good for 1 to {MOST_DAYS} days.")
    token = PREFIX + secrets.token_urlsafe(32)  # 256 bits
    values = (user_id, name, digest(token), known, days, TOKENS_PER_ACCOUNT)
    async with db.transaction():
        account = await db.fetchval(ACCOUNT, by, user_id, version)
        made = account and await db.fetchval(CREATE, *values)
    if not made:
        names = {row["name"] for row in await list_of(db, user_id)}
        if name in names:
            raise Refused("There is a token of this name already.")
        if len(names) >= TOKENS_PER_ACCOUNT:
            raise Refused(f"An account has at most {TOKENS_PER_ACCOUNT} tokens. End one first.")
        raise Refused("You may not make a token for this account, or it is kept out.")
    return token


async def create_service(db: Database, by: int, email: str, display_name: str | None) -> int:
    """Store an account for a program, which has no password; return its id.

    Raises:
        Refused: the address is none, or taken, or who asks is no administrator.
    """
    made = await create_approved(db, by, email, display_name, is_service=True)
    if made is None:
        raise Refused("Only administrators make accounts for programs.")
    return made


async def list_of(db: Database, user_id: int) -> list[dict[str, Any]]:
    """Return the tokens of an account, the newest first."""
    return [dict(row) for row in await db.fetch(LIST, user_id)]


async def end(db: Database, by: int | None, user_id: int, token_id: int) -> bool:
    """End a token; return False where there is none, or it is not theirs to end."""
    return await db.fetchval(END, by, user_id, token_id) is not None


async def end_all(db: Database, user_id: int) -> int:
    """End all tokens of an account; return how many."""
    return len(await db.fetch(END_ALL, user_id))
