"""What the directory source remembers: whom it looks after, which file it read, what it plans."""

from piccolo.columns import (
    BigInt,
    Boolean,
    ForeignKey,
    Integer,
    OnDelete,
    Text,
    Timestamptz,
    Varchar,
)
from piccolo.table import Table

from home.tables import User


class DirectoryPerson(Table, tablename="directory_people"):
    """An account that the directory made, or has listed since. Others it never disables."""

    user_id = ForeignKey(
        User, primary_key=True, null=False, default=None, on_delete=OnDelete.cascade
    )
    left_at = Timestamptz(
        null=True,
        default=None,
        help_text="When they were missing from the directory; empty: listed.",
    )
    disabled = Boolean(
        default=False, help_text="The directory disabled the account, and nobody enabled it since."
    )


class DirectoryFile(Table, tablename="directory_files"):
    """The version of a file that was taken over completely, so that it need not be sent again."""

    address_digest = Varchar(length=64, primary_key=True, default=None)  # addresses hold secrets
    etag = Varchar(length=255, default=None)
    read_at = Timestamptz()


class DirectoryChange(Table, tablename="directory_changes"):
    """One change that a run is about to make. Unlogged: it is worth nothing after a crash."""

    number = Integer(primary_key=True, default=None)
    run_id = BigInt(default=None)
    action = Varchar(length=20, default=None)
    line = Integer(null=True, default=None)
    user_id = Integer(null=True, default=None)
    email = Varchar(length=255, default=None)
    display_name = Text(null=True, default=None)
    organization = Text(null=True, default=None)
    clerk_id = Text(null=True, default=None)
