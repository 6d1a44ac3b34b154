"""What the parts of every app are given: the engine and the settings."""

from __future__ import annotations

from dataclasses import dataclass

from audit import apps
from home.config.settings import Settings
from home.database.engine import Engine


@dataclass(frozen=True)
class Services(apps.Services):
    """The engine and the settings; `settings_of` gives those of one app.

    They are `request.app.state.services` in a request, the argument of the functions that
    `App(...)` names, and of commands.
    """

    db: Engine
    settings: Settings
