"""Links that do one thing once: an invitation, a forgotten password, another address.

What a link was made for is bound to the account as it was then: what ends its sessions ends its
links. A link shows a form, and works when that is sent, so that who only looks at it, such as a
scanner of mails, uses nothing up.
"""

from __future__ import annotations

import secrets
from enum import StrEnum
from typing import NamedTuple

import asyncpg

from audit.context import identify
from audit.database import Database
from audit.errors import GroundworkError, Refused
from audit.record import record
from home.accounts import passwords
from home.accounts.credentials import normalise_email
from home.accounts.registration import create_approved, is_taken
from home.accounts.rights import require_superuser
from home.accounts.sessions import digest
from home.config.messages import is_mail_address
from home.database.engine import Engine

# A later one ends those before, but for a new password: anybody may ask for that.
MAKE = """
    WITH account AS (
        SELECT id, credentials_version FROM users
        WHERE id = $1 AND is_approved AND NOT is_disabled AND NOT is_service
          AND ($5::integer IS NULL OR credentials_version = $5)
        FOR NO KEY UPDATE
    ), ended AS (
        DELETE FROM one_time_links USING account
        WHERE user_id = account.id AND kind = $2 AND used_at IS NULL AND kind <> 'password'
    )
    INSERT INTO one_time_links (user_id, kind, digest, email, version, expires_at)
    SELECT id, $2, $3, $4, credentials_version, now() + make_interval(secs => $6) FROM account
    RETURNING id
"""
GIVE = """
    UPDATE one_time_links SET digest = $2 WHERE id = $1 AND used_at IS NULL AND expires_at > now()
    RETURNING id
"""
GOOD = """
    l.digest = $1 AND l.used_at IS NULL AND l.expires_at > now()
    AND l.created_at < now() + interval '1 minute' AND l.version = u.credentials_version
    AND u.is_approved AND NOT u.is_disabled
"""
LOOK = f"""
    SELECT l.kind, u.id AS user_id, u.email, l.email AS new_email, u.is_admin
    FROM one_time_links l JOIN users u ON u.id = l.user_id WHERE {GOOD}
"""  # noqa: S608  constants only
USE = f"""
    UPDATE one_time_links AS l SET used_at = now() FROM users AS u
    WHERE u.id = l.user_id AND {GOOD} RETURNING u.id
"""  # noqa: S608  constants only
STORE_HASH = "UPDATE users SET password_hash = $2 WHERE id = $1"
STORE_EMAIL = "UPDATE users SET email = $2 WHERE id = $1"
OF_ADDRESS = """
    SELECT id FROM users
    WHERE email = $1 AND is_approved AND NOT is_disabled AND NOT is_service
"""


class Kind(StrEnum):
    """The purpose of a link."""

    INVITATION = "invitation"
    PASSWORD = "password"  # noqa: S105  a purpose
    ADDRESS = "address"


SECONDS = {Kind.INVITATION: 7 * 24 * 3600, Kind.PASSWORD: 3600, Kind.ADDRESS: 3600}


class WrongLink(GroundworkError):
    """This link opens nothing any more: it was used, or is too old. Ask for another one."""

    status, code = 404, "not_found"


class Link(NamedTuple):
    """A link that is good.

    Args:
        email: of the account; `new_email` is what it becomes, of a link of that kind.
    """

    kind: Kind
    user_id: int
    email: str
    new_email: str | None
    is_admin: bool


async def make(
    db: Database, user_id: int, kind: Kind, *, email: str | None = None, version: int | None = None
) -> tuple[int, str] | None:
    """Store a link; return its id and its token, or None for an account that is kept out.

    Args:
        email: the new address.
        version: of the account whose password was confirmed.
    """
    token = secrets.token_urlsafe(32)  # 256 bits
    values = (user_id, kind, digest(token), email, version, SECONDS[kind])
    made = await db.fetchval(MAKE, *values)
    return None if made is None else (made, token)


async def token_for(db: Database, link_id: int) -> str | None:
    """Give a link another token, which ends the one before; return None where it is over."""
    token = secrets.token_urlsafe(32)
    return None if await db.fetchval(GIVE, link_id, digest(token)) is None else token


async def look(db: Database, token: str) -> Link:
    """Return what a token opens, which uses nothing up.

    Raises:
        WrongLink: nothing.
    """
    async with db.connection() as connection:  # of the primary: what is old may be wrong
        row = await connection.fetchrow(LOOK, digest(token))
    if row is None:
        raise WrongLink
    return Link(Kind(row["kind"]), *list(row.values())[1:])


async def invite(db: Engine, by: int, email: str, display_name: str | None) -> tuple[int, int, str]:
    """Store an account for who is invited; return its id, and its link's id and token.

    Raises:
        Refused: the address is none, or taken, or who asks is no administrator.
    """
    if not is_mail_address(normalise_email(email)):
        raise Refused("This is not a valid e-mail address.")
    async with db.transaction():
        made = await create_approved(db, by, email, display_name)
        if made is None:
            raise Refused("Only administrators invite people.")
        link = await make(db, made, Kind.INVITATION)
        assert link is not None  # the account was stored just now
    return made, *link


async def for_somebody(db: Database, by: int, user_id: int) -> tuple[int, str]:
    """Make a link by which somebody chooses a password; it is for a superuser to hand over.

    Raises:
        Refused: who asks is no superuser, or the account is kept out.
    """
    if by == user_id:
        raise Refused("Change your own password with the old one, on your account page.")
    await require_superuser(db, by, "Only superusers make links for other people.")
    link = await make(db, user_id, Kind.PASSWORD)
    if link is None:
        raise Refused("This account is kept out, or belongs to a program.")
    return link


async def of_address(db: Database, email: str) -> tuple[int, str] | None:
    """Make a link for who has forgotten their password; None where there is no such account."""
    user_id = await db.fetchval(OF_ADDRESS, email)
    return None if user_id is None else await make(db, user_id, Kind.PASSWORD)


async def choose_password(db: Engine, token: str, password: str) -> None:
    """Use a link up, and store a password, which ends sessions.

    Raises:
        WrongLink: it opens nothing, or not this.
        passwords.PasswordRefused: the password breaks a rule.
    """
    link = await look(db, token)
    if link.kind is Kind.ADDRESS:
        raise WrongLink
    passwords.check(password, is_admin=link.is_admin)
    stored = await passwords.hash_password(password)
    async with db.transaction():
        await _use(db, token, link)
        await db.execute(STORE_HASH, link.user_id, stored)


async def confirm_address(db: Engine, token: str) -> tuple[str, str]:
    """Use a link up, and store the new address, which ends sessions; return the old one, and it.

    Raises:
        WrongLink: it opens nothing, or not this, or somebody else has the address by now.
    """
    link = await look(db, token)
    if link.kind is not Kind.ADDRESS or link.new_email is None:
        raise WrongLink
    try:
        async with db.transaction():
            await _use(db, token, link)
            await db.execute(STORE_EMAIL, link.user_id, link.new_email)
    except asyncpg.UniqueViolationError as error:
        if not is_taken(error):
            raise
        raise WrongLink from None
    return link.email, link.new_email


async def _use(db: Database, token: str, link: Link) -> None:
    """Take a link whose token is still good; the account's row is held until this transaction ends.

    Raises:
        WrongLink: somebody else was faster, or the account has changed meanwhile.
    """
    identify(link.email, link.user_id)
    if await db.fetchval(USE, digest(token)) is None:
        raise WrongLink
    await record(db, "link.used", "users", link.user_id, {"kind": link.kind})
