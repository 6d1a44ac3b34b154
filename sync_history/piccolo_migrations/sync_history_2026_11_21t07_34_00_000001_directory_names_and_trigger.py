"""Names, no log for plans, and who enabled whom."""

from pathlib import Path

from audit.ddl import refuse_while_needed, sql_file
from piccolo.apps.migrations.auto.migration_manager import MigrationManager

ID = "2026-11-21T07:34:00:000001"
VERSION = "1.38.0"
DESCRIPTION = "Names, no log for plans, and who enabled whom."

SQL = Path(__file__).parent.parent / "sql"


async def forwards() -> MigrationManager:
    manager = MigrationManager(migration_id=ID, app_name="sync_history", description=DESCRIPTION)
    manager.add_raw(sql_file(SQL / "directory_v1.sql"))
    manager.add_raw_backwards(refuse_while_needed("sync_history"))
    manager.add_raw_backwards(sql_file(SQL / "directory_v1_down.sql"))
    return manager
