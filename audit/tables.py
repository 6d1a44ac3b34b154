"""Who changed what, and the seals that prove that nothing was altered since."""

from collections.abc import Sequence

from piccolo.columns import (
    JSONB,
    BigInt,
    BigSerial,
    Boolean,
    Bytea,
    Date,
    Integer,
    Serial,
    Text,
    Timestamptz,
    Varchar,
)
from piccolo.columns.base import Column
from piccolo.constraints import Unique
from piccolo.query.methods.count import Count
from piccolo.table import Table

from audit.counting import EstimatedCount


class AuditLog(Table, tablename="audit_logs"):
    """One row for each change and each event; never altered, never removed but by `prune`.

    Indexes, the view `audit_log` and the trigger are in the migration: Piccolo cannot name them.
    """

    id = BigSerial(primary_key=True, index=False)
    user_id = Integer(
        null=True,
        default=None,
        help_text="Whose doing it was; empty once that person is deleted, see actor.",
    )
    actor = Text(null=True, default=None, help_text="Who it was, as they were called then.")
    action = Varchar(length=100, default=None, help_text="What happened, for example users.update.")
    resource = Varchar(length=100, null=True, default=None, help_text="Which table or thing.")
    resource_id = Varchar(length=255, null=True, default=None, help_text="Which row of it.")
    details = JSONB(null=True, default=None, help_text="Before and after of what changed.")
    ip_address = Varchar(length=45, null=True, default=None, help_text="Where from.")
    request_id = Varchar(length=100, null=True, default=None, help_text="As in the logs.")
    is_admin_action = Boolean(default=False, help_text="Done in the back office.")
    created_at = Timestamptz(help_text="When.")
    salt = Bytea(
        null=True,
        default=None,
        secret=True,
        help_text="Keeps digests from being guessed; see audit.digests.",
    )
    who_digest = Bytea(
        null=True, default=None, secret=True, help_text="In place of who it was, once erased."
    )
    what_digest = Bytea(
        null=True, default=None, secret=True, help_text="In place of what it was, once erased."
    )

    @classmethod
    def count(cls, column: Column | None = None, distinct: Sequence[Column] | None = None) -> Count:
        """Return an estimate above 100,000 rows, see `EstimatedCount`."""
        if column or distinct:
            return super().count(column, distinct)
        return EstimatedCount(cls)


class AuditSeal(Table, tablename="audit_seals"):
    """A digest over the rows up to `last_id`, chained to the seal before it; see `seals`."""

    id = BigSerial(primary_key=True, index=False)
    first_id = BigInt(default=None, help_text="The first row under this seal.")
    last_id = BigInt(default=None, help_text="The last row under this seal.")
    row_count = BigInt(default=None, help_text="How many rows lie in between.")
    root = Varchar(length=64, default=None, help_text="Of the Merkle tree over the rows.")
    leaves = Bytea(
        null=True,
        default=None,
        secret=True,  # long, and of no use to people
        help_text="Id and short digest of each row: names the row that was altered.",
    )
    removal_count = BigInt(default=0, help_text="Removals that there were then.")
    removals_digest = Varchar(length=64, help_text="Over their digests.")
    algorithm = Varchar(length=20, default=None, help_text="sha256, or hmac-sha256 with a key.")
    key_id = Varchar(length=16, null=True, default=None, help_text="Which AUDIT_SEAL_KEY.")
    previous_digest = Varchar(length=64, null=True, default=None, help_text="Of the seal before.")
    digest = Varchar(length=64, default=None, help_text="Over all of this and the seal before.")
    created_at = Timestamptz(help_text="When it was sealed.")
    archived_at = Timestamptz(null=True, default=None, help_text="When its rows were archived.")
    pruned_at = Timestamptz(null=True, default=None, help_text="When its rows were removed.")


class AuditRemoval(Table, tablename="audit_removals"):
    """What was erased, archived or pruned, signed with the seal key; see `removals`."""

    id = BigSerial(primary_key=True, index=False)
    kind = Varchar(length=10, default=None, help_text="erase, archive or prune.")
    first_id = BigInt(default=None, help_text="The first row of it.")
    last_id = BigInt(default=None, help_text="The last row of it.")
    row_count = BigInt(default=None, help_text="How many rows.")
    first_seal = BigInt(null=True, default=None, help_text="The first seal whose rows left.")
    last_seal = BigInt(null=True, default=None, help_text="The last seal whose rows left.")
    rows_digest = Varchar(
        length=64, default=None, help_text="Over the rows erased, or of the last seal."
    )
    rows = Bytea(
        null=True, default=None, secret=True, help_text="Which rows were erased, and what of them."
    )
    pseudonym = Varchar(length=20, null=True, default=None, help_text="Of who was erased.")
    actor = Text(default=None, help_text="Who did it.")
    reason = Text(null=True, default=None, help_text="Why.")
    created_at = Timestamptz(help_text="When.")
    key_id = Varchar(length=16, null=True, default=None, help_text="Which AUDIT_SEAL_KEY.")
    digest = Varchar(length=64, default=None, help_text="Over all of this.")


class AuditArchive(Table, tablename="audit_archives"):
    """A file of rows that left the table, under whole seals."""

    id = BigSerial(primary_key=True, index=False)
    name = Varchar(length=200, default=None, help_text="Of the file, below AUDIT_ARCHIVE.")
    bytes = BigInt(default=None, help_text="Its size.")
    first_seal = BigInt(default=None, help_text="The first seal in it.")
    last_seal = BigInt(default=None, help_text="The last seal in it.")
    first_id = BigInt(default=None, help_text="Rows from this id on.")
    last_id = BigInt(default=None, help_text="Rows up to this id.")
    row_count = BigInt(default=None, help_text="How many rows.")
    oldest_at = Timestamptz(default=None, help_text="Of its rows.")
    newest_at = Timestamptz(default=None, help_text="Of its rows.")
    created_at = Timestamptz(help_text="When it was written.")


class AuditDailyCount(Table, tablename="audit_daily_counts"):
    """Counts of each action on each day (UTC), for the rows up to `last_id`."""

    id: Serial
    day = Date(default=None)
    action = Varchar(length=100, default=None)
    events = BigInt(default=None)
    last_id = BigInt(default=None, help_text="The newest row of the trail that is counted here.")

    audit_daily_counts_day_action_unique = Unique([day, action])
