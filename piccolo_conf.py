"""What Piccolo's commands look for."""

from piccolo.conf.apps import AppRegistry

from home.engine import Engine
from home.settings import SettingsError, load_settings

try:
    SETTINGS = load_settings()
except SettingsError as error:
    raise SystemExit(f"Settings cannot be used:\n{error}") from None

DB = Engine(SETTINGS)

APP_REGISTRY = AppRegistry(
    apps=["audit.piccolo_app", "home.piccolo_app", "sync_history.piccolo_app"]
)
