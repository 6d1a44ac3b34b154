"""How a command of any app behaves: options with hyphens, one-line errors, honest exit codes."""

from __future__ import annotations

import asyncio
import functools
import inspect
import sys
from collections.abc import Callable, Coroutine
from typing import Any, NoReturn

import asyncpg


class CommandError(Exception):
    """A command that cannot go on; the message says what happened and what to do."""


def command(function: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Make an async function a command of Piccolo's command line.

    Exit codes: 0 done, 1 failed with a line on standard error, 2 wrong options, 130 interrupted.
    """
    signature = inspect.signature(function)

    @functools.wraps(function)
    def run(*given: Any, **options: Any) -> None:
        try:
            bound = signature.bind(*given, **{k.replace("-", "_"): v for k, v in options.items()})
        except TypeError as error:
            fail(f"{error}; see --help", code=2)
        try:
            asyncio.run(function(*bound.args, **bound.kwargs))
        except (CommandError, ConnectionError) as error:
            fail(str(error))
        except asyncpg.UndefinedTableError:
            fail("the database lacks tables; run piccolo home migrate")
        except KeyboardInterrupt:
            fail("interrupted", code=130)

    run.__signature__ = signature  # type: ignore[attr-defined]
    hints = function.__annotations__.items()  # --help lists these
    run.__annotations__ = {name: hint for name, hint in hints if name != "return"}
    return run


def fail(message: str, code: int = 1) -> NoReturn:
    """End with a line on standard error."""
    print(message[:1].upper() + message[1:], file=sys.stderr)
    sys.exit(code)
