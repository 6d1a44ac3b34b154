"""Who is signed in, as a view."""

from pathlib import Path

from audit.ddl import refuse_while_needed, sql_file
from piccolo.apps.migrations.auto.migration_manager import MigrationManager

ID = "2026-11-21T03:18:00:000001"
VERSION = "1.38.0"
DESCRIPTION = "Who is signed in, as a view."

SQL = Path(__file__).parent.parent / "sql"


async def forwards() -> MigrationManager:
    manager = MigrationManager(migration_id=ID, app_name="home", description=DESCRIPTION)
    manager.add_raw(sql_file(SQL / "signed_in_v1.sql"))
    manager.add_raw_backwards(refuse_while_needed("home"))
    manager.add_raw_backwards(sql_file(SQL / "signed_in_v1_down.sql"))
    return manager
