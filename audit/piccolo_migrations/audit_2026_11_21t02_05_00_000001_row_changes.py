"""Triggers that record every change of a row, and keep the trail itself append-only."""

from pathlib import Path

from audit.ddl import refuse_while_needed, sql_file
from piccolo.apps.migrations.auto.migration_manager import MigrationManager

ID = "2026-11-21T02:05:00:000001"
VERSION = "1.38.0"
DESCRIPTION = "Triggers that record every change of a row, and keep the trail append-only."

SQL = Path(__file__).parent.parent / "sql"


async def forwards() -> MigrationManager:
    manager = MigrationManager(migration_id=ID, app_name="audit", description=DESCRIPTION)
    manager.add_raw(sql_file(SQL / "row_changes_v1.sql"))
    manager.add_raw_backwards(refuse_while_needed("audit"))
    manager.add_raw_backwards(sql_file(SQL / "row_changes_v1_down.sql"))
    return manager
