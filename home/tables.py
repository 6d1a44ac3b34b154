"""Accounts, their preferences and their sessions."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, cast

from piccolo.apps.user.tables import BaseUser
from piccolo.columns import (
    JSONB,
    Boolean,
    ForeignKey,
    OnDelete,
    Secret,
    Serial,
    Timestamptz,
    Varchar,
)
from piccolo.columns.readable import Readable
from piccolo.constraints import Check, Unique
from piccolo.table import Table
from piccolo_api.session_auth.tables import SessionsBase

from audit.context import identify
from audit.record import record
from home.accounts import passwords, sessions, throttle


class User(BaseUser, tablename="users"):
    """A person with an account. `role` (generated) and the indexes are in the migrations."""

    id: Serial
    email = Varchar(length=255, default=None, help_text="In lower case; people sign in with it.")
    password_hash = Secret(
        length=255, default="", required=False, help_text="argon2id; empty: no sign-in by password."
    )
    display_name = Varchar(length=255, null=True, default=None, help_text="What others see.")
    organization = Varchar(length=255, null=True, default=None)
    clerk_id = Varchar(
        length=255, null=True, default=None, help_text="The account's id at an external provider."
    )
    is_admin = Boolean(default=False, help_text="May use the back office.")
    is_superuser = Boolean(default=False, help_text="May change other people's accounts.")
    is_approved = Boolean(default=False, help_text="An administrator let this person in.")
    is_disabled = Boolean(default=False, help_text="Kept out, for now or for good.")
    approved_at = Timestamptz(null=True, default=None)
    approved_by: ForeignKey[User] = ForeignKey(
        "self", null=True, default=None, on_delete=OnDelete.set_null
    )
    last_login_at = Timestamptz(null=True, default=None)
    last_access_at = Timestamptz(null=True, default=None)
    created_at = Timestamptz()
    updated_at = Timestamptz(help_text="Kept by a trigger.")

    users_email_unique = Unique([email])
    # Lower case, one @ with something on both sides, no white space.
    users_email_check = Check(
        r"email = lower(email) AND email ~ '^[^@\s[:cntrl:]]+@[^@\s[:cntrl:]]+$'"
    )

    # Inherited columns that do not fit (schema.md) ...
    password: Any = None
    first_name: Any = None
    last_name: Any = None
    last_login: Any = None
    # ... and those that piccolo-admin and piccolo-api read on an instance.
    username: Any = property(lambda user: user.email)
    admin: Any = property(lambda user: user.is_admin)
    superuser: Any = property(lambda user: user.is_superuser)
    active: Any = property(lambda user: user.is_approved and not user.is_disabled)

    _min_password_length = passwords.MIN_LENGTH
    _max_password_length = passwords.MAX_LENGTH

    @classmethod
    def get_readable(cls) -> Readable:
        return Readable(template="%s", columns=[cls.email])

    @classmethod
    async def create_user(cls, username: str, password: str, **extra_params: Any) -> User:
        """Store a new account.

        Args:
            username: the e-mail address; stored in lower case.
            extra_params: other columns.

        Raises:
            PasswordRefused: the password breaks a rule.
            asyncpg.UniqueViolationError: the address is taken.
            asyncpg.CheckViolationError: it is no e-mail address.
        """
        is_admin = bool(extra_params.get("is_admin") or extra_params.get("is_superuser"))
        passwords.check(password, is_admin=is_admin)
        password_hash = await passwords.hash_password(password)
        user = cls(email=normalise_email(username), password_hash=password_hash, **extra_params)
        await user.save()
        return user

    @classmethod
    async def update_password(cls, user: str | int, password: str) -> None:
        """Store a new password for an e-mail address or an id.

        Raises:
            PasswordRefused: the password breaks a rule.
        """
        who = cls.email == normalise_email(user) if isinstance(user, str) else cls.id == user
        stored = await cls.select(cls.is_admin, cls.is_superuser).where(who).first()
        if stored is None:
            return
        passwords.check(password, is_admin=stored["is_admin"] or stored["is_superuser"])
        password_hash = await passwords.hash_password(password)
        await cls.update({cls.password_hash: password_hash}).where(who)

    @classmethod
    async def login(cls, username: str, password: str) -> int | None:
        """The id of the account these open, or None: unknown, wrong, unapproved or disabled.

        All take the same time: the hash is computed whatever was found. Failures are counted
        before the next attempt has its turn, so that many at once gain nothing.

        Raises:
            throttle.Throttled: this account or this address has failed too often.
        """
        email, stored = normalise_email(username), None
        async with passwords.hashing_slot():
            await throttle.check(cls._meta.db, email)
            if len(password) <= passwords.MAX_LENGTH and len(email) <= 255 and "\x00" not in email:
                stored = await (
                    cls.select(cls.id, cls.password_hash)
                    .where(cls.email == email, cls.is_approved.eq(True), cls.is_disabled.eq(False))
                    .first()
                )
            password = password[: passwords.MAX_LENGTH]
            password_hash = stored["password_hash"] if stored else ""
            if not await passwords.verify(password, password_hash):
                await record("sign_in.failed", throttle.RESOURCE, throttle.account_key(email))
                return None
        assert stored is not None  # nothing fits an empty hash
        identify(email, stored["id"])
        if passwords.needs_rehash(password_hash):
            better_hash = await passwords.hash_password(password)
            async with cls._meta.db.transaction():
                await cls.raw("SELECT set_config('groundwork.rehash', 'on', true)")
                await cls.update({cls.password_hash: better_hash}).where(cls.id == stored["id"])
        return cast(int, stored["id"])


def normalise_email(text: str) -> str:
    """As stored: without surrounding white space, in lower case."""
    return text.strip().lower()


class UserPreference(Table, tablename="user_preferences"):
    """A person's preferences: one JSON object each."""

    id: Serial
    user_id = ForeignKey(User, null=False, default=None, on_delete=OnDelete.cascade)
    preferences = JSONB(default="{}")
    created_at = Timestamptz()
    updated_at = Timestamptz(help_text="Kept by a trigger.")

    user_preferences_user_id_unique = Unique([user_id])


class Session(SessionsBase, tablename="sessions"):
    """A signed-in device. Programs that know only `sid`, `sess` and `expire` can share it."""

    sid = Varchar(
        length=None,
        primary_key=True,
        default=None,
        help_text="SHA-256 of the token in the cookie; it opens nothing.",
    )
    sess = JSONB(default="{}", help_text="Device, address and what programs keep here.")
    expire = Timestamptz(default=None, help_text="Moves on with use, up to max_expire.")
    user_id = ForeignKey(User, null=True, default=None, on_delete=OnDelete.cascade)
    max_expire = Timestamptz(null=True, default=None)
    created_at = Timestamptz()
    last_seen_at = Timestamptz(null=True, default=None)

    id: Any = None
    token: Any = None
    expiry_date: Any = None
    max_expiry_date: Any = None

    @classmethod
    async def create_session(
        cls,
        user_id: int,
        expiry_date: datetime | None = None,
        max_expiry_date: datetime | None = None,
    ) -> Session:
        """Begin a session. The token is on the returned object only, never in the table.

        How long it lasts follows from who it is, see `home.accounts.sessions`; dates are not used.
        """
        token, row = await sessions.create(cls._meta.db, user_id)
        session = cls(
            sid=sessions.digest(token),
            user_id=user_id,
            expire=row["expire"],
            max_expire=row["max_expire"],
        )
        session.token = token
        return session

    @classmethod
    async def get_user_id(cls, token: str, increase_expiry: timedelta | None = None) -> int | None:
        """Whose session a token opens, or None."""
        person = await sessions.authenticate(cls._meta.db, token)
        return person.id if person else None

    @classmethod
    async def remove_session(cls, token: str) -> None:
        """End the session that a token opens."""
        await cls.delete().where(cls.sid == sessions.digest(token))
