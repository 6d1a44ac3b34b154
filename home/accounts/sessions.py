"""Who is asking? One statement answers, for the API and the back office alike.

Times are the database's: several processes, and programs that share the table, have one clock.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from contextlib import suppress
from contextvars import ContextVar
from typing import Any, NamedTuple

import asyncpg

from audit.context import current_actor, identify
from audit.errors import GroundworkError
from audit.record import record

SESSIONS_PER_PERSON = 10

AUTHENTICATE = """
    SELECT id, email, display_name, organization, is_admin, is_superuser, sid, is_stale
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
# The session of the browser that signs in anew ends, and the oldest ones where there are too many.
CREATE = """
    WITH ended AS (
        DELETE FROM sessions WHERE sid = $4 OR sid IN (
            SELECT sid FROM sessions WHERE user_id = $2
            ORDER BY created_at DESC OFFSET $5 - 1
        )
    )
    INSERT INTO sessions (sid, user_id, sess, expire, max_expire, last_seen_at)
    SELECT $1, u.id, $3,
           now() + make_interval(mins => CASE WHEN u.is_admin THEN 15 ELSE 30 END),
           now() + make_interval(hours => CASE WHEN u.is_admin THEN 8 ELSE 12 END),
           now()
    FROM users u WHERE u.id = $2 AND u.is_approved AND NOT u.is_disabled
    RETURNING expire, max_expire
"""
SIGNED_IN = "UPDATE users SET last_login_at = now() WHERE id = $1 RETURNING email"
MUST_SET_UP = """
    SELECT is_admin OR is_superuser FROM users
    WHERE id = $1 AND NOT EXISTS (SELECT FROM authenticator_secrets WHERE user_id = $1)
"""


class RequestInfo(NamedTuple):
    """What a request tells of the device it comes from."""

    user_agent: str = ""
    token: str = ""
    is_secure: bool = False


request_info: ContextVar[RequestInfo] = ContextVar("request_info")


class SignedIn(NamedTuple):
    """A person with a session that is still good."""

    id: int
    email: str
    display_name: str | None
    organization: str | None
    is_admin: bool
    is_superuser: bool
    sid: str


class SignInRefused(GroundworkError):
    """Wrong e-mail address or password.

    Or the account was disabled, or lost its approval, at this very moment.
    """

    status, code = 401, "unauthorized"


class SecondFactorMissing(GroundworkError):
    """Administrators need a second factor here: set yours up at /second-factor

    `MFA_REQUIRED`, and this administrator has not set one up.
    """

    status, code = 403, "second_factor_missing"


def digest(token: str) -> str:
    """What the table knows of a token: SHA-256, in hex."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


async def authenticate(db: Any, token: str) -> SignedIn | None:
    """Whose session a token opens; from here on, what happens is that person's doing."""
    row = await db.fetchrow(AUTHENTICATE, digest(token))
    if row is None:
        return None
    if row["is_stale"]:
        with suppress(asyncpg.InsufficientResourcesError):  # reading goes on with a full disk
            await db.fetchrow(TOUCH, row["sid"])
    found = SignedIn(*list(row.values())[:-1])
    identify(found.email, found.id)
    return found


async def create(db: Any, user_id: int) -> tuple[str, Any]:
    """Begin a session.

    Returns:
        The token, which is stored nowhere, and the row's `expire` and `max_expire`.

    Raises:
        SignInRefused: the account may not sign in.
        SecondFactorMissing: not before there is one.
    """
    if db.settings.mfa_required and any(row[0] for row in await db.fetch(MUST_SET_UP, user_id)):
        raise SecondFactorMissing
    token = secrets.token_urlsafe(32)  # 256 bits
    device, actor = request_info.get(RequestInfo()), current_actor()
    sess = {"user_agent": device.user_agent[:500], "ip_address": actor and actor.ip_address}
    old = digest(device.token) if device.token else ""
    arguments = (digest(token), user_id, json.dumps(sess), old, SESSIONS_PER_PERSON)
    async with db.transaction():
        rows = await db.fetch(CREATE, *arguments)
        if not rows:
            raise SignInRefused
        [person] = await db.fetch(SIGNED_IN, user_id)
        await record("sign_in.succeeded", "sign_in", person["email"])
    return token, rows[0]
