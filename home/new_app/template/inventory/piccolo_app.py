"""The inventory as a Piccolo app."""

from pathlib import Path

from audit.app_config import AppConfig
from inventory.tables import Item

APP_CONFIG = AppConfig(
    app_name="inventory",
    migrations_folder_path=Path(__file__).parent / "piccolo_migrations",
    table_classes=[Item],
    migration_dependencies=["home.piccolo_app"],
    commands_in="inventory.commands",
)
