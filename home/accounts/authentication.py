"""What happens to accounts and sessions, for the API, the back office and commands alike."""

from __future__ import annotations

from typing import Any, cast

import asyncpg

from audit.context import Actor, acting_as
from audit.errors import GroundworkError
from audit.jobs import Job
from audit.record import record
from home.accounts import sessions, throttle
from home.accounts.second_factor import SecondFactor
from home.services import Services
from home.tables import Session, User, normalise_email

END_OTHERS = "DELETE FROM sessions WHERE user_id = $1 AND sid <> $2 RETURNING sid"
END_ONE = "DELETE FROM sessions WHERE user_id = $1 AND sid = $2 RETURNING sid"
END_ALL = "DELETE FROM sessions WHERE user_id = $1 OR $1::integer IS NULL RETURNING sid"
LIST = """
    SELECT sid, sess, created_at, last_seen_at, expire
    FROM sessions WHERE user_id = $1 AND expire > now() ORDER BY last_seen_at DESC NULLS LAST
"""


PURGE = """
    DELETE FROM sessions WHERE sid IN (
        SELECT sid FROM sessions WHERE expire < now() OR max_expire < now()
        ORDER BY expire LIMIT $1 FOR UPDATE SKIP LOCKED
    ) RETURNING sid
"""
PURGE_AT_ONCE = 1_000
PURGE_SECONDS = 600


class SignInFailed(GroundworkError):
    """Wrong e-mail address or password.

    Unknown, wrong, not approved or disabled: the answer does not tell which.
    """

    status, code = 401, "unauthorized"


class CodeNeeded(GroundworkError):
    """Send the code of your second factor, too.

    The password is right; the account has a second factor besides.
    """

    status, code = 401, "code_needed"


def _db() -> Any:
    return User._meta.db


async def check_credentials(
    factor: SecondFactor, email: str, password: str, code: str | None
) -> int:
    """Whose account these open; the session is up to the caller.

    Raises:
        SignInFailed: these open no account.
        CodeNeeded: the code of the second factor is missing.
        throttle.Throttled: too many failures.
    """
    user_id = await User.login(email, password)
    if user_id is None:
        raise SignInFailed
    if await factor.is_asked_of(user_id):
        if not code:
            raise CodeNeeded
        if not await factor.accepts(user_id, code):
            raise SignInFailed
    return user_id


async def sign_in(factor: SecondFactor, email: str, password: str, code: str | None) -> str:
    """Begin a session.

    Returns:
        The token for the cookie.

    Raises:
        sessions.SecondFactorMissing: an administrator has to set one up first.
        As `check_credentials`.
    """
    user_id = await check_credentials(factor, email, password, code)
    try:
        session = await Session.create_session(user_id)
    except sessions.SignInRefused:
        raise SignInFailed from None
    return cast(str, session.token)


async def sign_out(token: str) -> None:
    """End the session that a token opens, if it is one."""
    if await _db().fetch(
        "DELETE FROM sessions WHERE sid = $1 RETURNING sid", sessions.digest(token)
    ):
        await record("sign_out", throttle.RESOURCE)


async def register(email: str, password: str, **columns: Any) -> None:
    """Ask for an account: it waits for approval. Whether the address is taken, nobody is told.

    Raises:
        PasswordRefused: the password breaks a rule.
        asyncpg.CheckViolationError: this is no e-mail address.
    """
    try:
        await User.create_user(email, password, **columns)
    except asyncpg.UniqueViolationError:
        await record("register.repeated", "users", throttle.account_key(normalise_email(email)))


async def change_password(person: sessions.SignedIn, old: str, new: str) -> str:
    """Change the own password, which ends all sessions, and begin a new one.

    Returns:
        The token for the cookie.

    Raises:
        SignInFailed: the old password is another one.
        PasswordRefused: the new one breaks a rule.
        throttle.Throttled: too many failures.
    """
    if await User.login(person.email, old) != person.id:
        raise SignInFailed
    await User.update_password(person.id, new)
    return cast(str, (await Session.create_session(person.id)).token)


async def own_sessions(user_id: int) -> list[dict[str, Any]]:
    """A person's sessions, the one used last first."""
    return [dict(row) for row in await _db().fetch(LIST, user_id)]


async def end_session(user_id: int, sid: str) -> bool:
    """End one of a person's sessions; False when it is none of theirs."""
    return bool(await _db().fetch(END_ONE, user_id, sid))


async def end_other_sessions(user_id: int, sid: str) -> int:
    """End all of a person's sessions but one; returns how many."""
    return len(await _db().fetch(END_OTHERS, user_id, sid))


async def revoke_sessions(user_id: int | None) -> int:
    """End all sessions of a person, or everybody's; returns how many."""
    return len(await _db().fetch(END_ALL, user_id))


async def purge_sessions() -> int:
    """Remove sessions that are over, a thousand at a time; returns how many."""
    total = 0
    while removed := len(await _db().fetch(PURGE, PURGE_AT_ONCE)):
        total += removed
    return total


def jobs(services: Services) -> list[Job]:
    """Return the job that purges sessions every ten minutes."""

    async def run() -> None:
        with acting_as(Actor("system:purge")):
            await purge_sessions()

    return [Job("purge sessions", run, PURGE_SECONDS)]
