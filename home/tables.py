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

from home.accounts import passwords, sessions, verified_account
from home.accounts.credentials import SignInFailed, verify_password
from home.accounts.credentials import normalise_email as normalise_email
from home.database.engine import Engine

STORE_HASH = """
    UPDATE users SET password_hash = {}
    WHERE id = {} AND ({}::integer IS NULL OR credentials_version = {}) RETURNING id
"""


def engine_of(table: type[Table]) -> Engine:
    """Return the engine of a table."""
    return cast(Engine, table._meta.db)


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
    is_auditor = Boolean(
        default=False, help_text="May read the trail, people and runs; changes nothing by it."
    )
    is_service = Boolean(
        default=False, help_text="A program's account: without password, acts by tokens."
    )
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
    # Lower case, one @ with something on both sides, no white space, nothing invisible.
    users_email_check = Check(
        r"email = lower(email) AND email ~ "
        r"'^[^@\s[:cntrl:]\u00ad\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]+"
        r"@[^@\s[:cntrl:]\u00ad\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]+$'"
    )

    users_service_has_no_password = Check("NOT is_service OR password_hash = ''")
    # Inherited columns that there are not ...
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
        # Superusers are administrators, too.
        is_admin = bool(extra_params.get("is_admin") or extra_params.get("is_superuser"))
        passwords.check(password, is_admin=is_admin)
        password_hash = await passwords.hash_password(password)
        return await cls.store(username, password_hash, **{**extra_params, "is_admin": is_admin})

    @classmethod
    async def store(cls, email: str, password_hash: str, **columns: Any) -> User:
        """Store a new account whose password has been hashed.

        Raises:
            As `create_user`.
        """
        user = cls(email=normalise_email(email), password_hash=password_hash, **columns)
        await user.save()
        return user

    @classmethod
    async def update_password(cls, user: str | int, password: str) -> None:
        """Store a new password for an e-mail address or an id.

        Where `login` verified the old one in this request, it must still be that one.

        Raises:
            PasswordRefused: the password breaks a rule.
            verified_account.SignInRefused: the account changed meanwhile.
        """
        who = cls.email == normalise_email(user) if isinstance(user, str) else cls.id == user
        stored = await cls.select(cls.id, cls.is_admin).where(who).first()
        if stored is None:
            return
        passwords.check(password, is_admin=stored["is_admin"])
        password_hash = await passwords.hash_password(password)
        verified = verified_account.take(stored["id"])
        version = verified.version if verified else None
        if not await cls.raw(STORE_HASH, password_hash, stored["id"], version, version):
            raise verified_account.SignInRefused

    @classmethod
    async def login(cls, username: str, password: str) -> int | None:
        """Return the id of the account these open, or None: unknown or wrong.

        `Session.create_session` and `update_password`, later in this request, do nothing once the
        account has changed.

        Raises:
            As `home.accounts.credentials.verify_password`, but for SignInFailed.
        """
        try:
            account = await verify_password(engine_of(cls), username, password)
        except SignInFailed:
            return None
        verified_account.verified_account.set(account)
        return account.user_id


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
        db = engine_of(cls)
        begun = await sessions.create(db, await verified_account.account_of(db, user_id))
        session = cls(
            sid=sessions.digest(begun.token),
            user_id=user_id,
            expire=begun.expire,
            max_expire=begun.max_expire,
        )
        session.token = begun.token
        return session

    @classmethod
    async def get_user_id(cls, token: str, increase_expiry: timedelta | None = None) -> int | None:
        """Return whose session a token opens, or None."""
        person = await sessions.authenticate(engine_of(cls), token)
        return person.id if person else None

    @classmethod
    async def remove_session(cls, token: str) -> None:
        """End the session that a token opens."""
        await sessions.end_by_token(engine_of(cls), token)
