"""Sessions: they begin, say who is asking, and end.

Times are the database's: several processes, and programs that share the table, have one clock.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from contextvars import ContextVar
from datetime import datetime
from typing import Any, NamedTuple

import asyncpg

from audit.context import Actor, acting_as, current_actor, identify
from audit.database import Database
from audit.errors import DatabaseUnavailable, GroundworkError
from audit.jobs import Job
from audit.record import record
from home.accounts.verified_account import SignInRefused, VerifiedAccount, verified_account
from home.database.engine import Engine
from home.services import Services

SESSIONS_PER_PERSON = 10
PURGE_AT_ONCE = 1_000
PURGE_SECONDS = 600

# The fields of SignedIn, in their order, and whether `last_seen_at` is to be moved on.
AUTHENTICATE = """
    SELECT id, email, display_name, organization, is_admin, is_superuser, is_auditor, sid,
           needs_touch
    FROM signed_in WHERE sid = $1
"""
# At most once a minute, also when many requests come at once. A session ends after 30 minutes
# without use, and after 12 hours in any case; an administrator's after 15 minutes and 8 hours
# (OWASP ASVS 5.0, chapter 7, asks for both limits).
TOUCH = """
    UPDATE sessions s
    SET last_seen_at = now(), expire = least(
        now() + make_interval(mins => CASE WHEN u.is_admin THEN 15 ELSE 30 END),
        coalesce(s.max_expire, s.expire))
    FROM users u
    WHERE s.sid = $1 AND u.id = s.user_id
      AND (s.last_seen_at IS NULL OR s.last_seen_at < now() - interval '1 minute')
"""
# Holds the person's row until the session is stored: a password change, or whatever else ends
# sessions, comes before it, and then this finds nothing, or after it, and then ends the session.
CLAIM = """
    UPDATE users SET last_login_at = now()
    WHERE id = $1 AND credentials_version = $2 AND is_approved AND NOT is_disabled
      AND ($3 = '' OR EXISTS (SELECT FROM identities WHERE user_id = $1 AND provider = $3))
    RETURNING email
"""
# The session of the browser that signs in anew ends, and the oldest ones where there are too many;
# first those of a clock that was ahead, which are not good, see the view signed_in.
CREATE = """
    WITH ended AS (
        DELETE FROM sessions WHERE sid = $4 OR sid IN (
            SELECT sid FROM sessions WHERE user_id = $2
            ORDER BY created_at > now() + interval '1 minute', created_at DESC OFFSET $5 - 1
        )
    )
    INSERT INTO sessions (sid, user_id, sess, expire, max_expire, last_seen_at)
    SELECT $1, u.id, $3,
           now() + make_interval(mins => CASE WHEN u.is_admin THEN 15 ELSE 30 END),
           now() + make_interval(hours => CASE WHEN u.is_admin THEN 8 ELSE 12 END),
           now()
    FROM users u WHERE u.id = $2
    RETURNING expire, max_expire
"""
MUST_SET_UP = """
    SELECT is_admin FROM users
    WHERE id = $1 AND NOT EXISTS (SELECT FROM authenticator_secrets WHERE user_id = $1)
"""
LIST = """
    SELECT sid, sess, created_at, last_seen_at, expire
    FROM sessions WHERE sid IN (SELECT sid FROM signed_in WHERE id = $1)
    ORDER BY last_seen_at DESC NULLS LAST
"""
PROVIDER = "SELECT sess ->> 'provider' FROM sessions WHERE sid = $1"
END_BY_DIGEST = "DELETE FROM sessions WHERE sid = $1 RETURNING sid"
END_ONE = "DELETE FROM sessions WHERE user_id = $1 AND sid = $2 RETURNING sid"
END_OTHERS = "DELETE FROM sessions WHERE user_id = $1 AND sid <> $2 RETURNING sid"
END_ALL = "DELETE FROM sessions WHERE user_id = $1 OR $1::integer IS NULL RETURNING sid"
PURGE = """
    DELETE FROM sessions WHERE sid IN (
        SELECT sid FROM sessions
        WHERE expire < now() OR max_expire < now() OR created_at > now() + interval '1 minute'
        ORDER BY expire LIMIT $1 FOR UPDATE SKIP LOCKED
    ) RETURNING sid
"""


class RequestInfo(NamedTuple):
    """The device that a request comes from.

    Args:
        token: of its session.
        device: the cookie of a device that somebody signed in on, see home.accounts.devices.
    """

    user_agent: str = ""
    token: str = ""
    is_secure: bool = False
    device: str = ""


request_info: ContextVar[RequestInfo] = ContextVar("request_info")


class SignedIn(NamedTuple):
    """A person with a session that is still good."""

    id: int
    email: str
    display_name: str | None
    organization: str | None
    is_admin: bool
    is_superuser: bool
    is_auditor: bool
    sid: str


class NewSession(NamedTuple):
    """A session that has just begun.

    Args:
        token: for the cookie; stored nowhere.
        expire: when it ends without use.
        max_expire: when it ends in any case.
    """

    token: str
    expire: datetime
    max_expire: datetime


class SecondFactorMissing(GroundworkError):
    """Administrators need a second factor here: set yours up at /second-factor

    `MFA_REQUIRED`, and this administrator has not set one up.
    """

    status, code = 403, "second_factor_missing"


def digest(token: str) -> str:
    """Return what the table knows of a token: SHA-256, in hex."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


async def authenticate(db: Database, token: str) -> SignedIn | None:
    """Return whose session a token opens; from here on, what happens is that person's doing."""
    row = await db.fetchrow(AUTHENTICATE, digest(token))
    if row is None:
        return None
    *fields, needs_touch = row.values()
    found = SignedIn(*fields)
    if needs_touch:
        await touch(db, TOUCH, found.sid)
    identify(found.email, found.id)
    return found


async def touch(db: Database, statement: str, key: str) -> None:
    """Note that something is used, if the database takes changes: else reading goes on."""
    try:
        await db.fetchrow(statement, key)
    except (asyncpg.InsufficientResourcesError, asyncpg.LockNotAvailableError):
        pass  # a full disk; or somebody changes this row now
    except DatabaseUnavailable as error:
        if error.reason != "read_only":
            raise


async def create(db: Engine, account: VerifiedAccount) -> NewSession:
    """Begin a session.

    Raises:
        SignInRefused: the account may not sign in, or is not any more what was verified.
        SecondFactorMissing: not before there is one.
    """
    verified_account.set(None)
    token = secrets.token_urlsafe(32)  # 256 bits
    request, actor = request_info.get(RequestInfo()), current_actor()
    sess = {"user_agent": request.user_agent[:500], "ip_address": actor and actor.ip_address}
    if account.provider:
        sess |= {"provider": account.provider, "provider_sid": account.provider_sid}
    old = digest(request.token) if request.token else ""
    async with db.transaction():
        email = await db.fetchval(CLAIM, account.user_id, account.version, account.provider)
        if email is None:
            raise SignInRefused
        must_have = db.settings.mfa_required and not account.has_factor
        if must_have and await db.fetchval(MUST_SET_UP, account.user_id):
            raise SecondFactorMissing
        row = await db.fetchrow(
            CREATE, digest(token), account.user_id, json.dumps(sess), old, SESSIONS_PER_PERSON
        )
        assert row is not None  # the claim holds the account
        known = {"device": account.device, "provider": account.provider}
        details = {name: value for name, value in known.items() if value}
        await record(db, "sign_in.succeeded", "sign_in", email, details or None)
    return NewSession(token, row["expire"], row["max_expire"])


async def provider_of(db: Database, token: str) -> str | None:
    """Return the identity provider by which a session began, if it was one."""
    found: str | None = await db.fetchval(PROVIDER, digest(token))
    return found


async def end_by_token(db: Database, token: str) -> bool:
    """End the session that a token opens; return whether it was one."""
    return await db.fetchval(END_BY_DIGEST, digest(token)) is not None


async def list_of(db: Database, user_id: int) -> list[dict[str, Any]]:
    """Return a person's sessions, the one used last first."""
    return [dict(row) for row in await db.fetch(LIST, user_id)]


async def end_one(db: Database, user_id: int, sid: str) -> bool:
    """End one of a person's sessions; return False when it is none of theirs."""
    return await db.fetchval(END_ONE, user_id, sid) is not None


async def end_others(db: Database, user_id: int, sid: str) -> int:
    """End all of a person's sessions but one; return how many."""
    return len(await db.fetch(END_OTHERS, user_id, sid))


async def end_all(db: Database, user_id: int | None) -> int:
    """End all sessions of a person, or everybody's; return how many."""
    return len(await db.fetch(END_ALL, user_id))


async def purge(db: Database) -> int:
    """Remove sessions that are over, a thousand at a time; return how many."""
    total = 0
    while removed := len(await db.fetch(PURGE, PURGE_AT_ONCE)):
        total += removed
    return total


def jobs(services: Services) -> list[Job]:
    """Return the job that purges sessions every ten minutes."""

    async def run() -> None:
        with acting_as(Actor("system:purge")):
            await purge(services.db)

    return [Job("purge sessions", run, PURGE_SECONDS)]
