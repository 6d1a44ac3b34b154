"""Signing in and out, and changing the own password, for the API, the pages and commands alike."""

from __future__ import annotations

from typing import NamedTuple

from audit.errors import GroundworkError
from audit.record import record
from home.accounts import devices, passwords, sessions, throttle
from home.accounts.credentials import SignInFailed, verify_password
from home.accounts.second_factor import SecondFactor
from home.accounts.sessions import SignedIn
from home.accounts.verified_account import SignInRefused, VerifiedAccount
from home.database.engine import Engine

STORE_HASH = """
    UPDATE users SET password_hash = $3 WHERE id = $1 AND credentials_version = $2
    RETURNING credentials_version
"""


class CodeNeeded(GroundworkError):
    """Send the code of your second factor, too.

    The password is right; the account has a second factor besides.

    Args:
        account: whose password was right, see `SecondFactor.proof`.
    """

    status, code = 401, "code_needed"

    def __init__(self, account: VerifiedAccount) -> None:
        super().__init__()
        self.account = account


class CurrentPasswordWrong(GroundworkError):
    """The current password is wrong."""

    status, code = 403, "forbidden"


class Cookies(NamedTuple):
    """A session that has begun, and what its browser is given.

    Args:
        session: the session's token.
        device: see home.accounts.devices.
    """

    session: str
    device: str


async def check_credentials(
    db: Engine, factor: SecondFactor, email: str, password: str, code: str | None
) -> VerifiedAccount:
    """Return whose account these open; the session is up to the caller.

    Raises:
        SignInFailed: these open no account.
        CodeNeeded: the code of the second factor is missing.
        credentials.AwaitingApproval, credentials.AccountDisabled: the account is kept out.
        throttle.Throttled: too many failures.
    """
    return await check_code(factor, await verify_password(db, email, password), code)


async def check_code(
    factor: SecondFactor, account: VerifiedAccount, code: str | None
) -> VerifiedAccount:
    """Return the account, whose password was right, if the code is, too, where one is asked for.

    Raises:
        SignInFailed: the code is wrong.
        CodeNeeded: the code is missing.
        throttle.Throttled: too many failures.
    """
    if not account.has_factor and await factor.is_asked_of(account.user_id):
        if not code:
            raise CodeNeeded(account)
        if not await factor.accepts(account, code):
            raise SignInFailed
    return account


async def sign_in(
    db: Engine, factor: SecondFactor, email: str, password: str, code: str | None
) -> Cookies:
    """Begin a session.

    Raises:
        sessions.SecondFactorMissing: an administrator has to set one up first.
        SignInRefused: the account changed at this very moment.
        As `check_credentials`.
    """
    return await begin_session(db, await check_credentials(db, factor, email, password, code))


async def begin_session(db: Engine, account: VerifiedAccount) -> Cookies:
    """Begin a session of an account that was verified, its second factor included.

    Raises:
        sessions.SecondFactorMissing: an administrator has to set one up first.
        SignInRefused: the account changed at this very moment.
    """
    session = await sessions.create(db, account)
    return Cookies(session.token, account.device_cookie)


async def sign_out(db: Engine, token: str) -> None:
    """End the session that a token opens, if it is one."""
    if await sessions.end_by_token(db, token):
        await record(db, "sign_out", throttle.RESOURCE)


async def confirm_password(db: Engine, person: SignedIn, password: str) -> VerifiedAccount:
    """Return the account of who is signed in, whose password this is.

    Raises:
        CurrentPasswordWrong: it is not.
        SignInRefused: the address belongs to another account by now.
        throttle.Throttled: too many failures.
    """
    try:
        account = await verify_password(db, person.email, password)
    except SignInFailed:
        raise CurrentPasswordWrong from None
    if account.user_id != person.id:
        raise SignInRefused
    return account


async def change_password(db: Engine, person: SignedIn, old: str, new: str) -> Cookies:
    """Change the own password, which ends all sessions, and begin a new one.

    Raises:
        CurrentPasswordWrong: the old password is another one.
        PasswordRefused: the new one breaks a rule.
        throttle.Throttled: too many failures.
    """
    account = await confirm_password(db, person, old)
    passwords.check(new, is_admin=person.is_admin)
    stored = await passwords.hash_password(new)
    async with db.transaction():
        version = await db.fetchval(STORE_HASH, person.id, account.version, stored)
        if version is None:
            raise SignInRefused
        session = await sessions.create(db, account._replace(version=version))
    return Cookies(session.token, devices.issue(account.email, stored, account.device))
