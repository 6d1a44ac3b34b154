"""An account whose password was right: what is known of it until the session begins."""

from __future__ import annotations

from contextvars import ContextVar
from typing import NamedTuple

from audit.database import Database
from audit.errors import GroundworkError

ACCOUNT = "SELECT id, email, credentials_version FROM users WHERE id = $1"


class VerifiedAccount(NamedTuple):
    """An account whose password was right a moment ago.

    Args:
        version: `credentials_version` at that moment; under another one this means nothing.
        device: the id of the device, if somebody signed in on it before.
        device_cookie: what the device is given, to be recognised next time.
        provider: the identity provider, instead of a password; and `provider_sid`, its session.
        has_factor: whether a second factor was shown already.
    """

    user_id: int
    email: str
    version: int
    device: str | None = None
    device_cookie: str = ""
    provider: str = ""
    provider_sid: str = ""
    has_factor: bool = False


# For piccolo-api, which hands on the id alone between `User.login` and what follows from it.
verified_account: ContextVar[VerifiedAccount | None] = ContextVar("verified_account", default=None)


class SignInRefused(GroundworkError):
    """Your account has changed while you signed in. Sign in again.

    Its password, address, rights or second factor are other ones, or it was disabled.
    """

    status, code = 401, "unauthorized"


def take(user_id: int) -> VerifiedAccount | None:
    """Return what `User.login` verified in this request, if it was this account; for one use."""
    verified = verified_account.get()
    verified_account.set(None)
    return verified if verified is not None and verified.user_id == user_id else None


async def account_of(db: Database, user_id: int) -> VerifiedAccount:
    """Return what `User.login` verified in this request, or else the account as it is now.

    Raises:
        SignInRefused: there is no such account.
    """
    if (verified := verified_account.get()) is not None and verified.user_id == user_id:
        return verified
    row = await db.fetchrow(ACCOUNT, user_id)
    if row is None:
        raise SignInRefused
    return VerifiedAccount(row["id"], row["email"], row["credentials_version"])
