"""The audit trail as a Piccolo app."""

from pathlib import Path

from audit.app_config import AppConfig
from audit.tables import AuditArchive, AuditDailyCount, AuditLog, AuditRemoval, AuditSeal

APP_CONFIG = AppConfig(
    app_name="audit",
    migrations_folder_path=Path(__file__).parent / "piccolo_migrations",
    table_classes=[AuditLog, AuditSeal, AuditDailyCount, AuditRemoval, AuditArchive],
    migration_dependencies=[],
    commands_in="audit.commands",
)
