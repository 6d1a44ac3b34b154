"""How a command of any app behaves: options with hyphens, one-line errors, honest exit codes."""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from typing import Any, get_type_hints

import asyncpg

from audit.configured import piccolo_conf
from audit.context import acting_as, command_line_actor
from audit.database import Database
from audit.ending import fail, output_written
from audit.errors import GroundworkError


class CommandError(Exception):
    """A command that cannot go on; the message says what happened and what to do."""


class WrongOption(CommandError):
    """An option's value makes no sense; nothing was done."""


def command(function: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Make an async function a command of Piccolo's command line.

    A first parameter `services` is no option: it is given the database and the settings, as the
    class that it is annotated with.

    Exit codes: 0 done, 1 failed with a line on standard error, 2 wrong options, 130 interrupted,
    141 nobody reads the output any more.
    """
    signature = inspect.signature(function)
    hints = {name: hint for name, hint in get_type_hints(function).items() if name != "return"}
    wanted = hints.pop("services", None)
    if wanted is not None:
        options = [each for each in signature.parameters.values() if each.name != "services"]
        signature = signature.replace(parameters=options)

    @functools.wraps(function)
    def run(*given: Any, **options: Any) -> None:
        services = () if wanted is None else (wanted.of(piccolo_conf().DB),)
        try:
            bound = signature.bind(*given, **{k.replace("-", "_"): v for k, v in options.items()})
            for name, value in bound.arguments.items():
                bound.arguments[name] = _checked(name, value, hints.get(name))
        except (TypeError, ValueError) as error:
            fail(f"{error}; see --help", code=2)
        try:
            with output_written(), acting_as(command_line_actor()):
                asyncio.run(function(*services, *bound.args, **bound.kwargs))
        except WrongOption as error:
            fail(f"{error}; see --help", code=2)
        except (CommandError, GroundworkError, ConnectionError) as error:
            fail(str(error))
        except asyncpg.UndefinedTableError:
            fail("the database lacks tables; run piccolo home migrate")
        except asyncpg.PostgresError as error:
            fail(f"the database refused: {error.args[0]}")  # its details would show values
        except KeyboardInterrupt:
            fail("interrupted", code=130)

    run.__signature__ = signature  # type: ignore[attr-defined]
    run.is_command = True  # type: ignore[attr-defined]
    # --help lists these. Numbers are read by `_checked`: Piccolo's refusal exits with 1.
    run.__annotations__ = {name: str if hint is int else hint for name, hint in hints.items()}
    return run


def moment(option: str, text: str) -> datetime:
    """Return a date, or a date and time, of ISO 8601; without an offset it is UTC.

    Raises:
        WrongOption: it is none.
    """
    try:
        found = datetime.fromisoformat(text.strip())
        return found.astimezone(UTC) if found.tzinfo else found.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        example = "2026-01-31 or 2026-01-31T12:00Z"
        raise WrongOption(f"--{option}: «{text}» is not a date such as {example}") from None


async def past(option: str, text: str, db: Database) -> datetime:
    """Return the same, if it is not in the future by the database's clock.

    Raises:
        WrongOption: it is none.
    """
    found = moment(option, text)
    if found > await db.fetchval("SELECT now()"):
        raise WrongOption(f"--{option} is a date in the past")
    return found


def _checked(name: str, value: Any, hint: Any) -> Any:
    """Return an option's value as its type.

    Piccolo passes «True» for an option without a value, and text for `--flag=no`.
    """
    shown = name.replace("_", "-")
    if hint is bool and not isinstance(value, bool):
        raise ValueError(f"--{shown} is a flag: give it without a value, or not at all")
    if hint is not bool and isinstance(value, bool):
        raise ValueError(f"--{shown} needs a value: --{shown}=...")
    if hint is int and isinstance(value, str):
        try:
            return int(value)
        except ValueError:
            raise ValueError(f"--{shown} needs a number") from None
    return value
