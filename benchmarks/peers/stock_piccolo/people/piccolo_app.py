from pathlib import Path

from piccolo.conf.apps import AppConfig

from people.tables import Person

APP_CONFIG = AppConfig(
    app_name="people",
    migrations_folder_path=Path(__file__).parent / "piccolo_migrations",
    table_classes=[Person],
)
