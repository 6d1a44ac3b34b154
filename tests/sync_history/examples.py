"""Sources for tests that start processes: SYNC_SOURCES=tests.sync_history.examples."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from home.tables import User
from sync_history.sources import Run, SyncFailed, source


@source("quick")
async def quick(run: Run) -> None:
    run.total(3)
    for number in range(3):
        if run.dry_run:
            run.note(f"would sync item {number}")
        run.synced()


@source("partly", redoes_items=True)
async def partly(run: Run) -> None:
    if run.only:
        run.synced(len(run.only))
        return
    run.total(3)
    run.synced(2)
    run.failed("line 3", "has no e-mail address \x1b[31m")


@source("broken")
async def broken(run: Run) -> None:
    raise SyncFailed("The other side is closed on Saturdays.")


@source("slow")
async def slow(run: Run) -> None:
    run.total(1_000)
    for _ in range(1_000):
        run.synced()
        await asyncio.sleep(0.1)


@source("renaming")
async def renaming(run: Run) -> None:
    """Writes to the database all the time."""
    for number in range(10_000):
        await User.update({User.organization: f"number {number}"}).where(User.id > 0)
        run.synced()
        await asyncio.sleep(0.01)


@source("ticking", every=timedelta(seconds=1))
async def ticking(run: Run) -> None:
    run.synced()


@source("rude")
async def rude(run: Run) -> None:
    """Says what would be markup, templates and much, if anybody took it for that."""
    markup = "<script>document.title = 'taken over'</script><img src=x onerror=alert(1)>"
    run.total(3)
    for text in (markup, "{{7*7}} {% include 'base.html' %}", "w" * 1_000_000):
        run.failed(text, text)
        run.note(text)
    await asyncio.sleep(0)
    raise ValueError(markup + "{{7*7}}" + "e" * 1_000_000)
