"""Sources that do what no source should: SYNC_SOURCES=tests.sync_history.misbehaving."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from collections.abc import AsyncIterator
from typing import Any, cast

from sync_history.sources import Run, SyncFailed, source

HUGE = "x" * 100_000_000
ENDED = "The source tried to end the whole process."


class Unspeakable(Exception):
    """Cannot be shown, and would end the process of whoever tries."""

    def __str__(self) -> str:
        sys.exit(3)


class OutOfTheOrdinary(BaseException):
    """No Exception."""


async def leave() -> None:
    await asyncio.sleep(0)
    sys.exit(3)


@source("interrupting")
async def interrupting(run: Run) -> None:
    raise KeyboardInterrupt


@source("leaving")
async def leaving(run: Run) -> None:
    sys.exit(3)


@source("extraordinary")
async def extraordinary(run: Run) -> None:
    raise OutOfTheOrdinary("no Exception")


@source("child-leaving")
async def child_leaving(run: Run) -> None:
    await asyncio.create_task(leave())


@source("forgotten-child-leaving")
async def forgotten_child_leaving(run: Run) -> None:
    task = asyncio.create_task(leave())
    await asyncio.sleep(0.05)
    run.synced(task.done())


@source("grandchild-leaving")
async def grandchild_leaving(run: Run) -> None:
    async def group() -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(leave())
            tasks.create_task(asyncio.sleep(10))

    await asyncio.gather(group())


@source("thread-leaving")
async def thread_leaving(run: Run) -> None:
    await asyncio.to_thread(sys.exit, 3)


@source("unspeakable")
async def unspeakable(run: Run) -> None:
    run.failed("the first", Unspeakable())
    raise Unspeakable


@source("verbose")
async def verbose(run: Run) -> None:
    run.note(HUGE)
    run.failed(HUGE, HUGE)
    raise SyncFailed(HUGE)


@source("verbose-by-mistake")
async def verbose_by_mistake(run: Run) -> None:
    raise ValueError(HUGE)


@source("counting-by-hand")
async def counting_by_hand(run: Run) -> None:
    cast(Any, run).progress = -5


@source("counting-text")
async def counting_text(run: Run) -> None:
    cast(Any, run)._synced = "many"


@source("counting-late")
async def counting_late(run: Run) -> None:
    cast(Any, run)._total = 10**30
    await asyncio.sleep(60)


@source("noting-anything")
async def noting_anything(run: Run) -> None:
    cast(Any, run)._notes.append(object())


@source("returning")
async def returning(run: Run) -> Any:
    return {"status": "succeeded"}


@source("forgetful")
async def forgetful(run: Run) -> Any:
    return leave()


@source("generating")
async def generating(run: Run) -> Any:
    async def items() -> AsyncIterator[int]:
        yield 1

    return items()


@source("flooding")
async def flooding(run: Run) -> None:
    for number in range(200_000):
        run.synced()
        run.note(f"number {number}")
        run.failed(str(number), "is one of many")
        if not number % 1000:
            await asyncio.sleep(0)
    raise SyncFailed("That was all.")


@source("blocking")
async def blocking(run: Run) -> None:
    time.sleep(6)


@source("deaf")
async def deaf(run: Run) -> None:
    while True:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(3600)


@source("deaf-thread")
async def deaf_thread(run: Run) -> None:
    await asyncio.to_thread(time.sleep, 3600)


@source("deadlocked")
async def deadlocked(run: Run) -> None:
    await asyncio.sleep(0.5)
    time.sleep(3600)


# What becomes of each that comes to an end: the beginning of its error.
FAILURES = {
    "interrupting": ENDED,
    "leaving": ENDED,
    "extraordinary": "OutOfTheOrdinary: no Exception",
    "child-leaving": ENDED,
    "forgotten-child-leaving": ENDED,
    "grandchild-leaving": ENDED,
    "thread-leaving": ENDED,
    "unspeakable": "Unspeakable: (Unspeakable that cannot be shown)",
    "verbose": "xxx",
    "verbose-by-mistake": "ValueError: xxx",
    "counting-by-hand": "AttributeError: property 'progress' of 'Run' object has no setter",
    "counting-text": "What the source reported cannot be stored; see the log.",
    "counting-late": "What the source reported cannot be stored; see the log.",
    "noting-anything": "What the source reported cannot be stored; see the log.",
    "returning": "The source returned something (dict): is there an await missing?",
    "forgetful": "The source returned something (coroutine): is there an await missing?",
    "generating": "The source returned something (async_generator)",
    "flooding": "That was all.",
}
