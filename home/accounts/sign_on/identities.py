"""Whose account an identity at a provider opens, and what follows from its claims.

An identity is the provider's issuer and the person's subject there (OpenID Connect Core 1.0,
section 5.7). An e-mail address opens nothing by itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

import asyncpg

from audit.context import acting_as, current_actor, identify
from audit.database import Database, Record
from audit.errors import GroundworkError, Refused
from audit.record import record
from home.accounts import throttle
from home.accounts.credentials import AccountDisabled, AwaitingApproval, normalise_email
from home.accounts.profile import printable_name
from home.accounts.registration import is_taken
from home.accounts.sign_on.id_tokens import LoggedOut, is_name
from home.accounts.verified_account import VerifiedAccount
from home.config.providers import Provider
from home.database.engine import Engine
from home.tables import User

ACCOUNT = "u.id, u.email, u.credentials_version, u.is_approved, u.is_disabled, u.is_service"
BY_IDENTITY = f"""
    UPDATE identities SET last_used_at = now(), email = $3 FROM users AS u
    WHERE u.id = user_id AND issuer = $1 AND subject = $2
    RETURNING {ACCOUNT}
"""  # noqa: S608  constants only
# Whoever asked for an account that still waits need not be whose address it is: their password
# opens nothing any more.
TAKE_OVER = f"""
    UPDATE users AS u SET password_hash = '', is_approved = $2,
        approved_at = CASE WHEN $2 THEN now() END
    WHERE u.id = $1 AND NOT u.is_approved AND NOT u.is_disabled RETURNING {ACCOUNT}
"""  # noqa: S608  constants only
BY_CLERK_ID = f"SELECT {ACCOUNT} FROM users AS u WHERE clerk_id = $1"  # noqa: S608
BY_EMAIL = f"SELECT {ACCOUNT} FROM users AS u WHERE email = $1"  # noqa: S608
BY_ID = f"SELECT {ACCOUNT} FROM users AS u WHERE id = $1"  # noqa: S608
STORE = """
    INSERT INTO identities (user_id, provider, issuer, subject, email, last_used_at)
    SELECT id, $2, $3, $4, $5, now() FROM users
    WHERE id = $1 AND NOT is_service AND ($6::integer IS NULL OR credentials_version = $6)
    ON CONFLICT (issuer, subject) DO NOTHING RETURNING id
"""
# What claims do not speak of stays; superusers keep what they have.
CHANGE_RIGHTS = """
    UPDATE users SET is_admin = coalesce($2, is_admin), is_auditor = coalesce($3, is_auditor)
    WHERE id = $1 AND NOT is_superuser AND (is_admin, is_auditor)
        IS DISTINCT FROM (coalesce($2, is_admin), coalesce($3, is_auditor))
"""
LIST = """
    SELECT id, provider, issuer, email, created_at, last_used_at FROM identities
    WHERE user_id = $1 ORDER BY id
"""
# Nobody locks themselves out; sessions that began by it end, but for the one that asks.
REMOVE = """
    WITH gone AS (
        DELETE FROM identities WHERE id = $2 AND user_id = $1 AND (
            EXISTS (SELECT FROM users WHERE users.id = $1 AND password_hash <> '')
            OR EXISTS (SELECT FROM identities AS other WHERE other.user_id = $1 AND other.id <> $2))
        RETURNING provider
    ), ended AS (
        DELETE FROM sessions USING gone
        WHERE user_id = $1 AND sid <> $3 AND sess ->> 'provider' = gone.provider
    )
    SELECT provider FROM gone
"""
END_SESSIONS = """
    DELETE FROM sessions USING identities AS i
    WHERE sessions.user_id = i.user_id AND i.issuer = $1 AND sess ->> 'provider' = $2
      AND ($3::text IS NULL OR i.subject = $3)
      AND ($4::text IS NULL OR sess ->> 'provider_sid' = $4)
      AND sessions.created_at <= to_timestamp($5)
    RETURNING sid
"""


class NoAccount(GroundworkError):
    """This identity opens no account.

    Args:
        reason: for the trail.
    """

    status, code = 403, "no_account"

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class Identity(NamedTuple):
    """A person as a provider knows them.

    Args:
        email: as it is stored; None where there is none, or one that is not verified.
        sid: of the session there.
        has_factor: whether a second factor was asked for there that counts here.
    """

    provider: Provider
    subject: str
    email: str | None
    name: str | None
    sid: str
    has_factor: bool
    claims: Mapping[str, Any]


def identity_of(provider: Provider, claims: Mapping[str, Any]) -> Identity:
    """Return whom claims are about."""
    amr = claims.get("amr")
    proofs = [*(amr if isinstance(amr, list) else ()), claims.get("acr")]
    sid = claims.get("sid")
    return Identity(
        provider,
        claims["sub"],
        _email_of(provider, claims),
        printable_name(claims.get("name")),
        str(sid) if is_name(sid) else "",
        any(isinstance(each, str) and each in provider.second_factor for each in proofs),
        claims,
    )


def _email_of(provider: Provider, claims: Mapping[str, Any]) -> str | None:
    """Return an address that the provider has verified, as it is stored.

    One that becomes another one by being stored, such as one in wide letters, is another mailbox.
    """
    email, verified = claims.get("email"), claims.get("email_verified")
    if not (verified is True or verified == "true" or provider.trusts_email):
        return None
    if not isinstance(email, str) or not is_name(email) or normalise_email(email) != email.lower():
        return None
    return normalise_email(email)


async def account_for(db: Engine, identity: Identity, registration: bool) -> VerifiedAccount:
    """Return the account that an identity opens; a new one where there is none yet.

    Args:
        registration: whether people may ask for an account.

    Raises:
        NoAccount: it opens none, and none is made.
        AwaitingApproval, AccountDisabled: the account is kept out.
    """
    provider = identity.provider
    before = current_actor()
    assert before is not None  # requests have one
    with acting_as(before._replace(name=f"provider:{provider.name}", user_id=None)):
        async with db.transaction():
            await db.execute(throttle.TURN, f"{provider.issuer} {identity.subject}")
            row = await _found(db, identity) or await _made(db, identity, registration)
            wanted = _rights(identity)
            if wanted != (None, None):
                await db.execute(CHANGE_RIGHTS, row["id"], *wanted)
                row = await db.fetchrow(BY_ID, row["id"]) or row
    if row["is_disabled"]:
        raise AccountDisabled
    if not row["is_approved"]:
        raise AwaitingApproval
    identify(row["email"], row["id"])
    return VerifiedAccount(
        row["id"],
        row["email"],
        row["credentials_version"],
        provider=provider.name,
        provider_sid=identity.sid,
        has_factor=identity.has_factor,
    )


async def link(db: Database, identity: Identity, user_id: int, version: int) -> None:
    """Let an identity open the account of who is signed in.

    Raises:
        Refused: it opens another one, or the account has changed meanwhile.
    """
    if not await _store(db, identity, user_id, version):
        shown = identity.provider.shown
        raise Refused(f"This identity at {shown} is linked already, or your account has changed.")


async def list_of(db: Database, user_id: int) -> list[Record]:
    """Return the identities of an account."""
    return await db.fetch(LIST, user_id)


async def remove(db: Database, user_id: int, identity_id: int, sid: str) -> bool:
    """Unlink an identity; return False where there is none, or nothing else would sign in.

    Args:
        sid: of the session that asks, which goes on.
    """
    return await db.fetchval(REMOVE, user_id, identity_id, sid) is not None


async def end_sessions(db: Database, provider: Provider, over: LoggedOut) -> int:
    """End the sessions that began by an identity, or by one session at the provider."""
    return len(await db.fetch(END_SESSIONS, provider.issuer, provider.name, *over))


async def _found(db: Database, identity: Identity) -> Record | None:
    provider = identity.provider
    row = await db.fetchrow(BY_IDENTITY, provider.issuer, identity.subject, identity.email)
    if row is not None:
        return row
    if provider.clerk:
        row = await db.fetchrow(BY_CLERK_ID, identity.subject)
    if row is None and provider.links_by_email and identity.email is not None:
        row = await db.fetchrow(BY_EMAIL, identity.email)
        if row is not None and not row["is_service"]:
            row = await db.fetchrow(TAKE_OVER, row["id"], provider.approves) or row
    if row is not None and await _store(db, identity, row["id"], row["credentials_version"]):
        return row
    return None


async def _made(db: Engine, identity: Identity, registration: bool) -> Record:
    provider = identity.provider
    if identity.email is None:
        message = f"{provider.shown} has not verified your e-mail address."
        raise NoAccount("email_not_verified", message)
    if not (registration or provider.approves):
        raise NoAccount("registration_closed", "Ask an administrator for an account.")
    approval = {"is_approved": True, "approved_at": datetime.now(UTC)} if provider.approves else {}
    try:
        async with db.savepoint():
            made = await User.store(identity.email, "", display_name=identity.name, **approval)
    except asyncpg.UniqueViolationError as error:
        if not is_taken(error):
            raise
        message = (
            f"There is an account with this address already. Sign in to it with your password, and"
            f" link {provider.shown} on your account page."
        )
        raise NoAccount("address_taken", message) from None
    except (asyncpg.CheckViolationError, asyncpg.DataError):
        raise NoAccount("no_address", "This is not a valid e-mail address.") from None
    await record(db, "register.requested", "register", identity.email, {"provider": provider.name})
    await _store(db, identity, made.id, None)
    row = await db.fetchrow(BY_ID, made.id)
    assert row is not None  # it was stored just now
    return row


async def _store(db: Database, identity: Identity, user_id: int, version: int | None) -> bool:
    provider = identity.provider
    values = (provider.name, provider.issuer, identity.subject, identity.email, version)
    return await db.fetchval(STORE, user_id, *values) is not None


def _rights(identity: Identity) -> tuple[bool | None, bool | None]:
    """Return whether claims make an administrator, and an auditor; None where none speak of it."""
    found: dict[str, bool] = {}
    for claim, value, role in identity.provider.roles:
        given = identity.claims.get(claim)
        has = value == given or (isinstance(given, list) and value in given)
        found[role] = found.get(role, False) or has
    return found.get("admin"), found.get("auditor")
