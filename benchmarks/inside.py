"""Our own times without the start of Python, on an empty database: one line of JSON, in ms.

A program of its own (`python -m benchmarks.inside`), so that each run starts from nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import time
from collections.abc import Iterator
from statistics import median

from piccolo.apps.migrations.commands.backwards import run_backwards
from piccolo.apps.migrations.commands.forwards import run_forwards
from piccolo.apps.migrations.tables import Migration

from home.database.schema import differences
from piccolo_conf import DB

ACQUISITIONS = 100


class Stopwatch:
    """Times of named blocks, in milliseconds."""

    def __init__(self) -> None:
        self.times: dict[str, float] = {}

    @contextlib.contextmanager
    def of(self, name: str) -> Iterator[None]:
        began = time.perf_counter()
        with contextlib.redirect_stdout(io.StringIO()):
            yield
        self.times[name] = (time.perf_counter() - began) * 1000


async def measure() -> dict[str, float]:
    stopwatch = Stopwatch()
    with stopwatch.of("forwards"):
        await Migration.create_table(if_not_exists=True)  # as the command line does
        result = await run_forwards("all")
    assert result.success, result.message
    with stopwatch.of("verify"):
        found = await differences(DB)
    assert not found, found
    with stopwatch.of("backwards"):
        result = await run_backwards("all", auto_agree=True)
    assert result.success, result.message
    return {**stopwatch.times, "acquire": await _acquire()}


async def _acquire() -> float:
    """The median time to get a connection out of the started pool and back."""
    await DB.start_connection_pool()
    times = []
    for _ in range(ACQUISITIONS):
        began = time.perf_counter()
        async with DB.connection():
            times.append((time.perf_counter() - began) * 1000)
    await DB.close_connection_pool()
    return median(times)


if __name__ == "__main__":
    print(json.dumps(asyncio.run(measure())))
