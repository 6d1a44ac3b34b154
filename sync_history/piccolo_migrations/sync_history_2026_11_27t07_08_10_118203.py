"""The few runs that wait to be tried again."""

from audit.ddl import AppMigration

ID = "2026-11-27T07:08:10:118203"
VERSION = "1.38.0"
DESCRIPTION = "The few runs that wait to be tried again."


async def forwards():
    manager = AppMigration(
        migration_id=ID, app_name="sync_history", description=DESCRIPTION
    )
    manager.add_concurrent(
        "CREATE INDEX CONCURRENTLY idx_sync_history_retry_at ON sync_history (source)"
        " WHERE retry_at IS NOT NULL"
    )
    return manager
