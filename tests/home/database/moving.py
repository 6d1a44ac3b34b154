"""An app that is in no checkout, with migrations as its builder wrote them: for commands."""

from __future__ import annotations

import os
from pathlib import Path

from tests.conftest import ROOT

CONF = """
from audit.apps import AppRegistry
from piccolo_conf import DB, SETTINGS
APPS = ["audit.piccolo_app", "home.piccolo_app", "sync_history.piccolo_app", "moving.piccolo_app"]
APP_REGISTRY = AppRegistry(apps=APPS)
"""
APP = """
from pathlib import Path
from audit.app_config import AppConfig
APP_CONFIG = AppConfig(
    app_name="moving",
    migrations_folder_path=Path(__file__).parent / "piccolo_migrations",
    table_classes=[],
    migration_dependencies=["home.piccolo_app"],
)
"""
MIGRATION = """
from pathlib import Path
from audit.ddl import AppMigration, sql_file
ID = "{id}"
async def forwards():
    manager = AppMigration(migration_id=ID, app_name="moving", description="")
    {step}
    return manager
"""


class Moving:
    """The app in a folder; `env` lets commands find it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "moving"
        (self.folder / "piccolo_migrations").mkdir(parents=True)
        (folder / "conf_with_moving.py").write_text(CONF)
        (self.folder / "__init__.py").touch()
        (self.folder / "piccolo_app.py").write_text(APP)
        path = os.pathsep.join([str(folder), str(ROOT)])
        self.env = {"PICCOLO_CONF": "conf_with_moving", "PYTHONPATH": path}
        self.ids: list[str] = []

    def add(self, name: str, sql: str, *, concurrent: bool = False) -> str:
        """Add a migration of a script, or of one concurrent statement, and return its id."""
        id_ = f"moving_{len(self.ids)}_{name}"
        if concurrent:
            step = f"manager.add_concurrent({sql!r})"
        else:
            file = self.folder / f"{id_}.sql"
            file.write_text(sql)
            step = f"manager.add_raw_after_tables(sql_file(Path({str(file)!r})))"
        text = MIGRATION.format(id=id_, step=step)
        (self.folder / "piccolo_migrations" / f"{id_}.py").write_text(text)
        self.ids.append(id_)
        return id_
