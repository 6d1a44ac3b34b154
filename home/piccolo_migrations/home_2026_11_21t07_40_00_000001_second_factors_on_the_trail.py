"""Second factors are recorded, but for what they hold."""

from pathlib import Path

from audit.ddl import refuse_while_needed, sql_file
from audit.triggers import attach, detach
from piccolo.apps.migrations.auto.migration_manager import MigrationManager

ID = "2026-11-21T07:40:00:000001"
VERSION = "1.38.0"
DESCRIPTION = "Second factors are recorded, but for what they hold."

SQL = Path(__file__).parent.parent / "sql"
TABLE = "authenticator_secrets"


async def forwards() -> MigrationManager:
    manager = MigrationManager(migration_id=ID, app_name="home", description=DESCRIPTION)
    manager.add_raw(sql_file(SQL / "second_factors_v1.sql"))
    manager.add_raw(attach(TABLE, mask=["secret", "recovery_codes"], ignore=["last_used_step"]))
    manager.add_raw_backwards(refuse_while_needed("home"))
    manager.add_raw_backwards(detach(TABLE))
    manager.add_raw_backwards(sql_file(SQL / "second_factors_v1_down.sql"))
    return manager
