"""Sync history as a Piccolo app."""

from pathlib import Path

from audit.app_config import AppConfig
from sync_history.directory.tables import DirectoryChange, DirectoryFile, DirectoryPerson
from sync_history.tables import SyncLogLine, SyncRun, SyncState

APP_CONFIG = AppConfig(
    app_name="sync_history",
    migrations_folder_path=Path(__file__).parent / "piccolo_migrations",
    table_classes=[
        SyncRun,
        SyncState,
        SyncLogLine,
        DirectoryPerson,
        DirectoryFile,
        DirectoryChange,
    ],
    migration_dependencies=["home.piccolo_app"],
    commands_in="sync_history.commands",
)
