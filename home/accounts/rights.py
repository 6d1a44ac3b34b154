"""What is done to the account of one other person: rights, a new password, the second factor, one
session. Who may is checked by the statement that acts."""

from __future__ import annotations

import secrets
from typing import NamedTuple

from audit.database import Database
from audit.errors import Refused
from home.accounts import authenticator, passwords
from home.accounts.decisions import REASONS

# Whether $1 is a superuser, who then stays one until this transaction ends.
SUPERUSER = """
    SELECT id FROM users WHERE id = $1 AND is_superuser AND is_approved AND NOT is_disabled
    FOR SHARE
"""
STORE_HASH = """
    UPDATE users SET password_hash = $3
    WHERE id = $2 AND EXISTS (
        SELECT FROM users AS by
        WHERE by.id = $1 AND by.is_superuser AND by.is_approved AND NOT by.is_disabled)
    RETURNING email
"""
CHANGE = """
    UPDATE users SET is_auditor = $3, is_admin = $4, is_superuser = $5
    WHERE id = $2 AND (is_auditor, is_admin, is_superuser) = ($6, $7, $8) AND EXISTS (
        SELECT FROM users AS by
        WHERE by.id = $1 AND by.is_superuser AND by.is_approved AND NOT by.is_disabled)
    RETURNING id
"""
END_SESSION = """
    DELETE FROM sessions WHERE user_id = $2 AND sid = $3 AND EXISTS (
        SELECT FROM users AS by, users AS person
        WHERE by.id = $1 AND by.is_admin AND by.is_approved AND NOT by.is_disabled
          AND person.id = $2
          AND (by.is_superuser OR NOT (person.is_admin OR person.is_superuser)))
    RETURNING sid
"""


class Rights(NamedTuple):
    """The rights of a person besides using the application."""

    is_auditor: bool
    is_admin: bool
    is_superuser: bool


async def give_password(db: Database, by: int, person_id: int) -> str:
    """Store a new password, which ends the sessions; return it, to be told once.

    Raises:
        Refused: who asks is no superuser, or it is about themselves, or there is no such account.
    """
    if person_id == by:
        raise Refused("Change your own password with the old one, on your account page.")
    password = secrets.token_urlsafe(12)
    password_hash = await passwords.hash_password(password)
    if await db.fetchval(STORE_HASH, by, person_id, password_hash) is None:
        await require_superuser(db, by, "Only superusers give people another password.")
        raise Refused(REASONS["gone"])
    return password


async def remove_second_factor(db: Database, by: int, person_id: int) -> bool:
    """Take a second factor away, and the sessions with it; return whether there was one.

    Raises:
        Refused: who asks is no superuser.
    """
    async with db.transaction():
        await require_superuser(db, by, "Only superusers take a second factor away.")
        return await authenticator.remove(db, person_id)


async def change_rights(
    db: Database, by: int, person_id: int, before: Rights, after: Rights
) -> None:
    """Give somebody other rights, which ends their sessions.

    Args:
        before: what they were when whoever decides looked.

    Raises:
        Refused: who asks is no superuser, or somebody else changed them meanwhile.
        asyncpg.CheckViolationError: a rule of the database is broken, such as the one that the
            last superuser stays.
    """
    after = after._replace(is_admin=after.is_admin or after.is_superuser)
    if person_id == by and after.is_auditor and not before.is_auditor:
        raise Refused("Nobody makes themselves an auditor.")
    if person_id == by and before.is_superuser and not after.is_superuser:
        raise Refused("Another superuser takes this right from you.")
    if await db.fetchval(CHANGE, by, person_id, *after, *before) is None:
        await require_superuser(db, by, "Only superusers change rights.")
        raise Refused("Somebody else changed these rights meanwhile. Look again.")


async def end_session(db: Database, by: int, person_id: int, sid: str) -> None:
    """End one session of somebody.

    Raises:
        Refused: it has ended, or who asks may not.
    """
    if await db.fetchval(END_SESSION, by, person_id, sid) is None:
        raise Refused("This session has ended already, or it is not for you to end.")


async def require_superuser(db: Database, by: int, sentence: str) -> None:
    """Refuse, with this sentence, unless who asks is a superuser.

    Raises:
        Refused.
    """
    if await db.fetchval(SUPERUSER, by) is None:
        raise Refused(sentence)
