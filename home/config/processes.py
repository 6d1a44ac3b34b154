"""Programs that are run beside this one, and end with what asked for them."""

from __future__ import annotations

from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress


@asynccontextmanager
async def ended(process: Process) -> AsyncIterator[None]:
    """Have a program for a block; what is not done at its end, however that comes, is killed."""
    try:
        yield
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()
