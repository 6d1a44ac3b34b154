"""Names, indexes, and the rule of one running run a source."""

from pathlib import Path

from audit.ddl import refuse_while_needed, sql_file
from piccolo.apps.migrations.auto.migration_manager import MigrationManager

ID = "2026-11-20T22:34:45:245197"
VERSION = "1.38.0"
DESCRIPTION = "Names, indexes, and the rule of one running run a source."

SQL = Path(__file__).parent.parent / "sql"


async def forwards() -> MigrationManager:
    manager = MigrationManager(migration_id=ID, app_name="sync_history", description=DESCRIPTION)
    manager.add_raw(sql_file(SQL / "names_and_indexes_v1.sql"))
    manager.add_raw_backwards(refuse_while_needed("sync_history"))
    manager.add_raw_backwards(sql_file(SQL / "names_and_indexes_v1_down.sql"))
    return manager
