"""Piccolo's configuration of an app whose commands are imported when somebody asks for them."""

from __future__ import annotations

import importlib
import sys
from dataclasses import dataclass
from pathlib import Path

from piccolo.conf import apps


@dataclass
class AppConfig(apps.AppConfig):
    """Piccolo's AppConfig, which imports no commands for `piccolo migrations ...` and the like.

    Args:
        commands_in: the module whose functions with `@command` are the app's commands, also those
            that it imports.
    """

    commands_in: str = ""

    def get_commands(self) -> list[apps.Command]:
        """Return the commands, unless the command line is about another app."""
        program, *arguments = sys.argv
        group = next(iter(arguments), "")
        is_for_others = group.isidentifier() and group != self.app_name
        if not self.commands_in or (Path(program).name == "piccolo" and is_for_others):
            return []
        module = importlib.import_module(self.commands_in)
        found = [each for each in vars(module).values() if getattr(each, "is_command", False)]
        found.sort(key=lambda each: each.__module__ != self.commands_in)  # its own come first
        return [apps.Command(each) for each in found]
