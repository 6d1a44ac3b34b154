"""What Piccolo's commands and the server look for: the apps, the settings, the database."""

from audit.apps import AppRegistry
from audit.errors import GroundworkError
from home.config.settings import load_settings
from home.config.sources import SettingsError
from home.database.engine import Engine

try:
    APP_REGISTRY = AppRegistry(
        apps=[
            "audit.piccolo_app",
            "home.piccolo_app",
            "sync_history.piccolo_app",
        ]
    )
    SETTINGS = load_settings(APP_REGISTRY.settings())
except SettingsError as error:
    raise SystemExit(f"Settings cannot be used:\n{error}") from None
except GroundworkError as error:
    raise SystemExit(str(error)) from None

DB = Engine(SETTINGS)
