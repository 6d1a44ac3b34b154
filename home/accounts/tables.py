"""Tables of the ways to act for an account besides a password."""

from __future__ import annotations

from typing import Any

from piccolo.columns import Array, ForeignKey, Integer, OnDelete, Serial, Timestamptz, Varchar
from piccolo.constraints import Unique
from piccolo.table import Table

from home.tables import User


class Identity(Table, tablename="identities"):
    """A person as an identity provider knows them, see home.accounts.sign_on."""

    id: Serial
    user_id = ForeignKey(User, null=False, default=None, on_delete=OnDelete.cascade, index=True)
    provider = Varchar(length=30, default=None, help_text="The name in the settings.")
    issuer = Varchar(length=500, default=None)
    subject = Varchar(length=255, default=None)
    email = Varchar(length=255, null=True, default=None, help_text="There, if it is verified.")
    created_at = Timestamptz()
    last_used_at = Timestamptz(null=True, default=None)

    identities_issuer_subject_unique = Unique([issuer, subject])


class ApiToken(Table, tablename="api_tokens"):
    """A token by which a program acts for an account, see home.accounts.tokens."""

    id: Serial
    user_id = ForeignKey(User, null=False, default=None, on_delete=OnDelete.cascade)
    name = Varchar(length=50, default=None, help_text="The trail shows it.")
    digest = Varchar(length=64, default=None, unique=True, help_text="SHA-256; it opens nothing.")
    scopes: Any = Array(Varchar(), help_text="Of read, write, sync, trail.")
    created_at = Timestamptz()
    expires_at = Timestamptz(default=None)
    last_used_at = Timestamptz(null=True, default=None)
    api_tokens_user_id_name_unique = Unique([user_id, name])


class OneTimeLink(Table, tablename="one_time_links"):
    """A link that does one thing once, see home.accounts.links."""

    id: Serial
    user_id = ForeignKey(User, null=False, default=None, on_delete=OnDelete.cascade, index=True)
    kind = Varchar(length=20, default=None, help_text="invitation, password or address.")
    digest = Varchar(
        length=64, null=True, default=None, unique=True, help_text="SHA-256; it opens nothing."
    )
    email = Varchar(length=255, null=True, default=None, help_text="The new address.")
    version = Integer(default=0, help_text="Of the account as it was then.")
    created_at = Timestamptz()
    expires_at = Timestamptz(default=None)
    used_at = Timestamptz(null=True, default=None)
