"""Runs a command: ours as under `piccolo`, and Piccolo's with the same manners."""

from __future__ import annotations

import asyncio
import inspect
import os
import subprocess
from typing import Any

import asyncpg
import colorama

from audit.configured import piccolo_conf
from audit.context import acting_as, command_line_actor
from audit.ending import fail
from audit.errors import GroundworkError
from home.command_line.catalogue import Command


def call(command: Command, options: dict[str, Any]) -> None:
    """Import and run a command, in the name of who is at the terminal."""
    if os.environ.get("NO_COLOR"):
        colorama.init(strip=True)  # some commands of Piccolo know nothing of it
    piccolo_conf()  # first: what it refuses, it says itself
    function = command.load()
    if getattr(function, "is_command", False):
        function(**options)
        return
    try:
        with acting_as(command_line_actor()):
            answer = function(**options)
            if inspect.isawaitable(answer):
                asyncio.run(_wait(answer))
    except (GroundworkError, OSError, ValueError, subprocess.CalledProcessError) as error:
        fail(str(error))
    except asyncpg.PostgresError as error:
        fail(f"the database refused: {error.args[0]}")  # its details would show values
    except KeyboardInterrupt:
        fail("interrupted", code=130)


async def _wait(answer: Any) -> Any:
    return await answer
