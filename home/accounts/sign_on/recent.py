"""How people without a password show that it is them: they signed in by a provider a moment ago.

Their session alone is not enough: it may be old, and in other hands.
"""

from __future__ import annotations

from typing import NamedTuple

from audit.database import Database
from audit.errors import GroundworkError
from home.accounts.authentication import confirm_password
from home.accounts.sessions import SignedIn
from home.accounts.verified_account import VerifiedAccount
from home.database.engine import Engine

# A provider that was unlinked since opens nothing any more.
PASSWORDLESS = """
    SELECT u.id, u.email, u.credentials_version,
           coalesce(s.sess ->> 'provider', '') AS provider,
           coalesce(s.sess ->> 'provider_sid', '') AS provider_sid,
           s.created_at > now() - interval '10 minutes' AND EXISTS (
               SELECT FROM identities WHERE user_id = u.id AND provider = s.sess ->> 'provider'
           ) AS is_recent,
           ARRAY(SELECT DISTINCT provider FROM identities WHERE user_id = u.id) AS providers
    FROM signed_in JOIN sessions AS s USING (sid) JOIN users AS u ON u.id = s.user_id
    WHERE sid = $1 AND u.password_hash = '' AND NOT u.is_service
"""
IS_PASSWORDLESS = """
    SELECT EXISTS (
        SELECT FROM users WHERE id = $1 AND credentials_version = $2
        AND password_hash = '' AND NOT is_service)
"""


class SignOnTooOld(GroundworkError):
    """Sign in by your identity provider again: this can be done for ten minutes from then."""

    status, code = 403, "forbidden"


class Passwordless(NamedTuple):
    """Somebody who is signed in, and has no password.

    Args:
        is_recent: whether this session began by a provider, less than ten minutes ago.
        providers: the names of those that open the account.
    """

    account: VerifiedAccount
    is_recent: bool
    providers: list[str]


async def passwordless(db: Database, sid: str) -> Passwordless | None:
    """Return who is signed in; None where they have a password, or the session is over."""
    row = await db.fetchrow(PASSWORDLESS, sid)
    if row is None:
        return None
    id_, email, version, provider, provider_sid, is_recent, providers = row.values()
    account = VerifiedAccount(id_, email, version, provider=provider, provider_sid=provider_sid)
    return Passwordless(account, is_recent, providers)


async def is_passwordless(db: Database, account: VerifiedAccount) -> bool:
    """Return whether an account is still what was verified, and has no password."""
    found: bool = await db.fetchval(IS_PASSWORDLESS, account.user_id, account.version)
    return found


async def confirm(db: Engine, person: SignedIn, password: str) -> VerifiedAccount:
    """Return the account of who is signed in, once they have shown that it is them.

    Args:
        password: of no matter where there is none.

    Raises:
        SignOnTooOld: they have no password, and did not sign in by a provider just now.
        As `authentication.confirm_password`.
    """
    found = await passwordless(db, person.sid)
    if found is None:
        return await confirm_password(db, person, password)
    if not found.is_recent:
        raise SignOnTooOld
    return found.account
