"""What Piccolo's commands look for."""

from typing import Any

from home.config.settings import load_settings
from home.config.sources import SettingsError
from home.database.engine import Engine

try:
    SETTINGS = load_settings()
except SettingsError as error:
    raise SystemExit(f"Settings cannot be used:\n{error}") from None

DB = Engine(SETTINGS)


def __getattr__(name: str) -> Any:
    """APP_REGISTRY, made when a command asks for it: the server starts without loading it."""
    if name != "APP_REGISTRY":
        raise AttributeError(name)
    from piccolo.conf.apps import AppRegistry

    apps = ["audit.piccolo_app", "home.piccolo_app", "sync_history.piccolo_app"]
    return globals().setdefault(name, AppRegistry(apps=apps))
