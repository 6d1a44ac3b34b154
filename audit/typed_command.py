"""What `piccolo` lacks: a mistyped command is named and exits 2, and a group has a help of its own.

Piccolo's command line prints all there is and exits 0, which in a timer looks like success.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import NoReturn

import colorama
from piccolo import apps as piccolo_apps
from piccolo.conf.apps import AppConfig, Command

from audit.spelling import did_you_mean


def check_typed_command(configs: Iterable[AppConfig], instead: Mapping[str, str]) -> None:
    """Exit where the command line is `piccolo` with a command that there is not.

    Args:
        configs: of the apps besides Piccolo's own.
        instead: for groups of Piccolo that are of no use here: what to do.

    Raises:
        SystemExit: 2 with a sentence, or 0 for the help of a group.
    """
    program, *words = sys.argv
    if Path(program).name != "piccolo":
        return
    if os.environ.get("NO_COLOR"):
        colorama.init(strip=True)  # Piccolo's help knows nothing of it
    groups = {config.app_name: config for config in [*configs, *configs_of_piccolo()]}
    match [word for word in words if word != "--trace"]:
        case [group, *_] if group in instead:
            _mistyped(instead[group])
        case [group, "--help"] if group in groups:
            print(_help(group, groups[group].get_commands()))
            sys.exit(0)
        case [group, *rest] if group in groups:
            known = _names(groups[group].get_commands())
            if not rest:
                _mistyped(f"Name a command of {group}: {', '.join(known)}.")
            if rest[0] not in known:
                _mistyped(
                    f"There is no command {rest[0]!r} in {group}.{did_you_mean(rest[0], known)}"
                )
        case [word, *_] if word != "--help" and word not in _names_without_group(groups.values()):
            _mistyped(f"There is no group of commands {word!r}.{did_you_mean(word, groups)}")


def configs_of_piccolo() -> list[AppConfig]:
    """Return the configurations of the apps that Piccolo itself brings."""
    names = [each.name for each in iter_modules(piccolo_apps.__path__)]
    return [import_module(f"piccolo.apps.{name}.piccolo_app").APP_CONFIG for name in names]


def _names(commands: Iterable[Command]) -> list[str]:
    found = [[each.command_name or each.callable.__name__, *each.aliases] for each in commands]
    return [name for names in found for name in names]


def _names_without_group(configs: Iterable[AppConfig]) -> set[str]:
    """Return what Piccolo runs without a group, such as `piccolo forwards`."""
    return {name for config in configs for name in _names(config.get_commands())}


def _help(group: str, commands: Iterable[Command]) -> str:
    lines = [f"Usage: piccolo {group} COMMAND [options]", ""]
    for each in commands:
        first = (each.callable.__doc__ or "").strip().partition("\n\n")[0]
        lines += [
            f"  {each.command_name or each.callable.__name__}",
            f"      {' '.join(first.split())}",
        ]
    return "\n".join(lines)


def _mistyped(message: str) -> NoReturn:
    print(message, file=sys.stderr)
    sys.exit(2)
