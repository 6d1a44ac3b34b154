"""The audit trail as a Piccolo app."""

from pathlib import Path

from piccolo.conf.apps import AppConfig

from audit.commands import export, history, prune, seal, seals, verify
from audit.tables import AuditDailyCount, AuditLog, AuditSeal

APP_CONFIG = AppConfig(
    app_name="audit",
    migrations_folder_path=Path(__file__).parent / "piccolo_migrations",
    table_classes=[AuditLog, AuditSeal, AuditDailyCount],
    migration_dependencies=[],
    commands=[seal, verify, seals, export, prune, history],
)
