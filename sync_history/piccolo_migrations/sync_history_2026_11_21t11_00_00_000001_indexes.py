"""Indexes for the overview, and for the newest runs of a source."""

from pathlib import Path

from audit.ddl import refuse_while_needed, sql_file
from piccolo.apps.migrations.auto.migration_manager import MigrationManager

ID = "2026-11-21T11:00:00:000001"
VERSION = "1.38.0"
DESCRIPTION = "Indexes for the overview, and for the newest runs of a source."

SQL = Path(__file__).parent.parent / "sql"


async def forwards() -> MigrationManager:
    manager = MigrationManager(migration_id=ID, app_name="sync_history", description=DESCRIPTION)
    manager.add_raw(sql_file(SQL / "indexes_v2.sql"))
    manager.add_raw_backwards(refuse_while_needed("sync_history"))
    manager.add_raw_backwards(sql_file(SQL / "indexes_v2_down.sql"))
    return manager
