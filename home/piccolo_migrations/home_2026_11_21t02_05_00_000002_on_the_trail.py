"""Changes of people, preferences and sessions are recorded."""

from audit.ddl import refuse_while_needed
from audit.triggers import attach, detach
from piccolo.apps.migrations.auto.migration_manager import MigrationManager

ID = "2026-11-21T02:05:00:000002"
VERSION = "1.38.0"
DESCRIPTION = "Changes of people, preferences and sessions are recorded."


async def forwards() -> MigrationManager:
    manager = MigrationManager(migration_id=ID, app_name="home", description=DESCRIPTION)
    manager.add_raw(
        attach(
            "users",
            mask=["password_hash"],
            ignore=["updated_at", "last_login_at", "last_access_at"],
        )
    )
    manager.add_raw(attach("user_preferences", ignore=["updated_at"]))
    manager.add_raw(attach("sessions", ignore=["expire", "max_expire", "last_seen_at"]))
    manager.add_raw_backwards(refuse_while_needed("home"))
    for table in ("sessions", "user_preferences", "users"):
        manager.add_raw_backwards(detach(table))
    return manager
