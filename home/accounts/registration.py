"""Asking for an account."""

from __future__ import annotations

import asyncpg

from audit.database import Database
from audit.errors import Refused
from audit.record import record
from home.accounts import passwords, throttle
from home.accounts.credentials import normalise_email
from home.accounts.hashing_queue import Purpose
from home.tables import User

CREATE_APPROVED = """
    INSERT INTO users (email, password_hash, display_name, is_service, is_approved, approved_at,
                       approved_by)
    SELECT $2, '', $3, $4, true, now(), by.id FROM users AS by
    WHERE by.id = $1 AND by.is_admin AND by.is_approved AND NOT by.is_disabled
    RETURNING id
"""


def is_taken(error: asyncpg.UniqueViolationError) -> bool:
    """Return whether it says that an address has an account, rather than something else."""
    return str(error.constraint_name) == "users_email_unique"


async def register(db: Database, email: str, password: str, **columns: str | None) -> None:
    """Ask for an account, which waits for approval. A taken address gets the same answer.

    Raises:
        PasswordRefused: the password breaks a rule.
        asyncpg.CheckViolationError: this is no e-mail address.
        throttle.Throttled: too many requests came from this address.
        hashing_queue.Busy: too many others are signing in.
    """
    passwords.check(password, is_admin=False)
    email = normalise_email(email)
    await throttle.count_registration(db, email)
    password_hash = await passwords.hash_password(password, Purpose.REGISTRATION)
    try:
        await User.store(email, password_hash, **columns)
    except asyncpg.UniqueViolationError as error:
        if not is_taken(error):
            raise
        await record(db, "register.repeated", "register", throttle.attempt_at(email).account)


async def create_approved(
    db: Database, by: int, email: str, display_name: str | None, *, is_service: bool = False
) -> int | None:
    """Store an account without a password for an administrator, who approves it thereby.

    Returns:
        Its id; None where who asks is no administrator.

    Raises:
        Refused: the address is none, or taken.
    """
    try:
        made: int | None = await db.fetchval(
            CREATE_APPROVED, by, normalise_email(email), display_name, is_service
        )
    except asyncpg.UniqueViolationError as error:
        if not is_taken(error):
            raise
        raise Refused("There is already an account with this e-mail address.") from None
    except (asyncpg.CheckViolationError, asyncpg.DataError):
        raise Refused("This is not a valid e-mail address.") from None
    return made
