"""How sync runs appear in the back office."""

from __future__ import annotations

from piccolo_admin.endpoints import TableConfig
from piccolo_api.crud.endpoints import OrderBy

from audit.admin import read_only
from sync_history.directory_tables import DirectoryPerson
from sync_history.tables import SyncRun


def sync_tables() -> list[TableConfig]:
    """Table configurations of the group Sync."""
    return [
        TableConfig(
            SyncRun,
            menu_group="Sync",
            visible_columns=[
                SyncRun.id,
                SyncRun.source,
                SyncRun.status,
                SyncRun.trigger_type,
                SyncRun.started_at,
                SyncRun.duration_ms,
                SyncRun.items_synced,
                SyncRun.items_failed,
            ],
            order_by=[OrderBy(SyncRun.id, ascending=False)],
            validators=read_only("Runs record what happened; they cannot be changed."),
        ),
        TableConfig(
            DirectoryPerson,
            menu_group="Sync",
            validators=read_only("The directory says who is in it."),
        ),
    ]
