"""A run's states have an order, and what is over stays as it is; failures are not on the trail."""

from pathlib import Path

from audit.ddl import refuse_while_needed, sql_file
from audit.triggers import attach, detach
from piccolo.apps.migrations.auto.migration_manager import MigrationManager

ID = "2026-11-21T07:35:00:000001"
VERSION = "1.38.0"
DESCRIPTION = (
    "A run's states have an order, and what is over stays as it is; failures are not on the trail."
)

SQL = Path(__file__).parent.parent / "sql"


async def forwards() -> MigrationManager:
    manager = MigrationManager(migration_id=ID, app_name="sync_history", description=DESCRIPTION)
    progress = ["heartbeat_at", "items_total", "items_synced", "items_failed"]
    manager.add_raw(detach("sync_history"))
    # Written in mid-run as well, and up to 60 KB long.
    manager.add_raw(attach("sync_history", ignore=[*progress, "error_details"]))
    manager.add_raw(sql_file(SQL / "rules_v1.sql"))
    manager.add_raw_backwards(refuse_while_needed("sync_history"))
    manager.add_raw_backwards(sql_file(SQL / "rules_v1_down.sql"))
    manager.add_raw_backwards(detach("sync_history"))
    manager.add_raw_backwards(attach("sync_history", ignore=progress))
    return manager
