"""Runs of sources: what was synced, when, by whom, and how it ended."""

from enum import StrEnum

from piccolo.columns import (
    JSONB,
    UUID,
    BigInt,
    BigSerial,
    Boolean,
    ForeignKey,
    Integer,
    OnDelete,
    Serial,
    Text,
    Timestamptz,
    Varchar,
)
from piccolo.constraints import Check, Unique
from piccolo.table import Table

from home.tables import User


class Status(StrEnum):
    """pending → running → one of the four ends."""

    PENDING = "pending"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    PARTIAL = "partial"  # some items failed
    FAILED = "failed"
    CANCELLED = "cancelled"


class Trigger(StrEnum):
    """The cause of a run."""

    AUTOMATIC = "automatic"
    MANUAL = "manual"


ENDS = (Status.SUCCEEDED, Status.PARTIAL, Status.FAILED, Status.CANCELLED)


class SyncRun(Table, tablename="sync_history"):
    """One run of a source. A partial unique index allows one running row for each source.

    A trigger keeps the order of the states, sets the three times by the database's clock, and lets
    nothing change a run that is over: see sql/rules_v2.sql.
    """

    id: Serial
    source = Varchar(length=100, default=None, help_text="The source's registered name.")
    status = Varchar(
        length=50,
        default=Status.PENDING,
        choices=Status,
        help_text="Partial: some items failed, see the error details.",
    )
    trigger_type = Varchar(
        length=50,
        default=Trigger.AUTOMATIC,
        choices=Trigger,
        help_text="Automatic: it was due. Manual: somebody started it.",
    )
    triggered_by = ForeignKey(
        User, null=True, default=None, on_delete=OnDelete.set_null, help_text="Who started it."
    )
    started_at = Timestamptz(null=True, default=None)
    completed_at = Timestamptz(null=True, default=None)
    duration_ms = BigInt(null=True, default=None, help_text="By the database's clock.")
    items_total = Integer(null=True, default=None, help_text="How many there are, where known.")
    items_synced = Integer(default=0, help_text="Goes up while it runs: reload to see it.")
    items_failed = Integer(default=0, help_text="All of them; error details name the first.")
    error_message = Text(null=True, default=None, help_text="Why it did not succeed.")
    error_details = JSONB(
        null=True, default=None, help_text="Which items failed and why, and what the source noted."
    )
    heartbeat_at = Timestamptz(null=True, default=None, help_text="When it last said it lives.")
    created_at = Timestamptz()

    dry_run = Boolean(default=False, help_text="It only said what it would do.")
    force = Boolean(default=False, help_text="The source's own safety limits were overridden.")
    retry_of = Integer(
        null=True, default=None, help_text="It redid only what had failed in this run."
    )
    attempt = Integer(default=1, help_text="The how manieth, of a run that failed before.")
    attempts = Integer(default=1, help_text="How many there may be.")
    attempt_of = Integer(null=True, default=None, help_text="The first of these attempts.")
    retry_at = Timestamptz(
        null=True,
        default=None,
        help_text="When it is tried again by itself, unless another run begins first.",
    )
    due_at = Timestamptz(
        null=True, default=None, help_text="Of an automatic run: each due time has one run."
    )
    claim = UUID(
        null=True, default=None, help_text="Of the process that runs it; nobody else may write."
    )
    holds_lock = Boolean(
        default=False, help_text="That process holds an advisory lock as long as it lives."
    )
    cancel_requested_at = Timestamptz(null=True, default=None)
    cancel_requested_by = ForeignKey(
        User, null=True, default=None, on_delete=OnDelete.set_null, help_text="Who cancelled it."
    )
    needs_attention = Boolean(default=False, help_text="A person should look at it.")
    attention_reason = Text(null=True, default=None, help_text="Why a person should look at it.")

    # As text: of a varchar, pg_dump writes the list in another way than PostgreSQL keeps it.
    sync_history_status_check = Check(
        "status::text IN ('pending', 'running', 'succeeded', 'partial', 'failed', 'cancelled')"
    )
    sync_history_trigger_type_check = Check("trigger_type::text IN ('automatic', 'manual')")
    sync_history_source_due_at_unique = Unique([source, due_at])


class SyncState(Table, tablename="sync_states"):
    """Where a source has come to, as its last run kept it. Written often: not on the trail."""

    source = Varchar(length=100, primary_key=True, default=None)
    state = JSONB(default="{}")
    version = Integer(default=1, help_text="Goes up with each change.")
    run_id = Integer(null=True, default=None, help_text="Who wrote it; empty: it was reset.")
    updated_at = Timestamptz()


class SyncLogLine(Table, tablename="sync_log_lines"):
    """What a source logged in a run."""

    id = BigSerial(primary_key=True, index=False)
    run = ForeignKey(SyncRun, null=False, default=None, on_delete=OnDelete.cascade)
    at = Timestamptz()
    level = Varchar(length=20, default=None)
    text = Text(default=None)
