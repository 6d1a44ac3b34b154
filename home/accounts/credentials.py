"""Whose password is it? Every sign-in begins here, the back office's included."""

from __future__ import annotations

import unicodedata
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import lru_cache
from typing import Final

from audit.context import identify, storable
from audit.database import Database, Record
from audit.errors import DatabaseUnavailable, GroundworkError
from audit.record import record
from home.accounts import devices, passwords, throttle
from home.accounts.hashing_queue import Busy
from home.accounts.sessions import RequestInfo, request_info
from home.accounts.verified_account import VerifiedAccount
from home.database.connection_queue import ConnectionQueue

MAX_EMAIL_LENGTH: Final = 255
# So few look up their accounts at a time: a flood of sign-ins, which wait for each other's hashes
# anyway, holds up nobody else, and leaves them the connections.
LOOKUPS_AT_ONCE = 4

FIND = """
    SELECT id, email, password_hash, credentials_version, is_approved, is_disabled
    FROM users WHERE email = $1
"""
# The same password under newer parameters; not where it was changed meanwhile.
REHASH = """
    WITH rehash AS MATERIALIZED (SELECT set_config('groundwork.rehash', 'on', true))
    UPDATE users SET password_hash = $3 FROM rehash WHERE id = $1 AND password_hash = $2
"""


class SignInFailed(GroundworkError):
    """Wrong e-mail address or password.

    Unknown or wrong: the answer does not say which.
    """

    status, code = 401, "unauthorized"


class AwaitingApproval(GroundworkError):
    """Your account waits for approval: an administrator has to let you in.

    Said only once the password was right, as is AccountDisabled.
    """

    status, code = 403, "awaiting_approval"


class AccountDisabled(GroundworkError):
    """Your account is disabled. Ask an administrator to enable it."""

    status, code = 403, "account_disabled"


def normalise_email(text: str) -> str:
    """Return an address as it is stored: without surrounding white space, in lower case, and each
    letter in its usual form (NFKC): a wide "a" is an "a"."""
    return unicodedata.normalize("NFKC", text).strip().lower()


async def verify_password(db: Database, email: str, password: str) -> VerifiedAccount:
    """Return the account that an address and a password belong to; the session is up to the caller.

    All take the same time: the hash is computed whatever was found. No connection, and nothing
    else, waits for it meanwhile.

    Raises:
        SignInFailed: they belong to no account.
        AwaitingApproval, AccountDisabled: the password is right, and the account is kept out.
        throttle.Throttled: this account or this address has failed too often.
        hashing_queue.Busy: too many others are signing in.
    """
    email = normalise_email(email)
    async with _looking_up():
        row = await _find(db, email, password)
        stored = row["password_hash"] if row else ""
        device = devices.recognise(request_info.get(RequestInfo()).device, email, stored)
        attempt = throttle.attempt_at(email, device)
        await throttle.check(db, attempt)
    fits = await passwords.fits(storable(password)[: passwords.MAX_LENGTH], stored)
    refusal = _refusal(row if fits else None)
    async with throttle.turn(db, attempt):
        if refusal is not None:
            reason = {} if isinstance(refusal, SignInFailed) else {"reason": refusal.code}
            await record(
                db, "sign_in.failed", throttle.RESOURCE, attempt.account, attempt.details(**reason)
            )
    if refusal is not None:
        raise refusal
    assert row is not None  # nothing fits an empty hash
    identify(email, row["id"])
    if passwords.needs_rehash(stored):
        stored = await _rehash(db, row["id"], stored, password)
    cookie = devices.issue(email, stored, device)
    return VerifiedAccount(row["id"], email, row["credentials_version"], device, cookie)


@asynccontextmanager
async def _looking_up() -> AsyncIterator[None]:
    """Have one of the few places.

    Raises:
        DatabaseUnavailable: it answers none of those before in time.
    """
    queue = _lookups()
    try:
        await queue.take()
    except TimeoutError as error:
        raise DatabaseUnavailable("timeout") from error
    try:
        yield
    finally:
        queue.give()


@lru_cache(maxsize=1)
def _lookups() -> ConnectionQueue:
    return ConnectionQueue(LOOKUPS_AT_ONCE, passwords.WAIT_SECONDS)


async def _find(db: Database, email: str, password: str) -> Record | None:
    """Return the account of an address; none has an address or a password that cannot be stored."""
    if len(email) > MAX_EMAIL_LENGTH or len(password) > passwords.MAX_LENGTH:
        return None
    if [email, password] != storable([email, password]):
        return None
    async with db.connection() as connection:  # of the primary: what is old may be wrong
        return await connection.fetchrow(FIND, email)


async def _rehash(db: Database, user_id: int, stored: str, password: str) -> str:
    """Replace a hash that was made with other parameters; return the one that is stored now."""
    try:
        better = await passwords.hash_password(password)
    except Busy:  # next time
        return stored
    await db.execute(REHASH, user_id, stored, better)
    return better


def _refusal(found: Record | None) -> GroundworkError | None:
    """Return why a person is not let in; None is found where the password does not fit."""
    if found is None:
        return SignInFailed()
    if found["is_disabled"]:
        return AccountDisabled()
    return None if found["is_approved"] else AwaitingApproval()
