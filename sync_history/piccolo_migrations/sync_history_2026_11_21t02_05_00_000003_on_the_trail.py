"""Changes of sync runs are recorded, but for their heartbeats and progress."""

from audit.ddl import refuse_while_needed
from audit.triggers import attach, detach
from piccolo.apps.migrations.auto.migration_manager import MigrationManager

ID = "2026-11-21T02:05:00:000003"
VERSION = "1.38.0"
DESCRIPTION = "Changes of sync runs are recorded, but for their heartbeats and progress."


async def forwards() -> MigrationManager:
    manager = MigrationManager(migration_id=ID, app_name="sync_history", description=DESCRIPTION)
    progress = ["heartbeat_at", "items_total", "items_synced", "items_failed"]
    manager.add_raw(attach("sync_history", ignore=progress))
    manager.add_raw_backwards(refuse_while_needed("sync_history"))
    manager.add_raw_backwards(detach("sync_history"))
    return manager
