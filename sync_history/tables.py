"""Runs of sources: what was synced, when, by whom, and how it ended."""

from enum import StrEnum

from piccolo.columns import (
    JSONB,
    BigInt,
    ForeignKey,
    Integer,
    OnDelete,
    Serial,
    Text,
    Timestamptz,
    Varchar,
)
from piccolo.constraints import Check
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
    """What started a run."""

    AUTOMATIC = "automatic"
    MANUAL = "manual"


class SyncRun(Table, tablename="sync_history"):
    """One run of a source. A partial unique index allows one running row for each source."""

    id: Serial
    source = Varchar(length=100, default=None, help_text="The source's registered name.")
    status = Varchar(length=50, default=Status.PENDING, choices=Status)
    trigger_type = Varchar(length=50, default=Trigger.AUTOMATIC, choices=Trigger)
    triggered_by = ForeignKey(User, null=True, default=None, on_delete=OnDelete.set_null)
    started_at = Timestamptz(null=True, default=None)
    completed_at = Timestamptz(null=True, default=None)
    duration_ms = BigInt(null=True, default=None, help_text="By the database's clock.")
    items_total = Integer(null=True, default=None)
    items_synced = Integer(default=0)
    items_failed = Integer(default=0)
    error_message = Text(null=True, default=None)
    error_details = JSONB(null=True, default=None)
    heartbeat_at = Timestamptz(null=True, default=None, help_text="When it last said it lives.")
    created_at = Timestamptz()

    sync_history_status_check = Check(
        "status IN ('pending', 'running', 'succeeded', 'partial', 'failed', 'cancelled')"
    )
    sync_history_trigger_type_check = Check("trigger_type IN ('automatic', 'manual')")
