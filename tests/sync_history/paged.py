"""A source of ten pages, whose process is killed after each: SYNC_SOURCES=tests.sync_history.paged.

What it syncs goes into a table of the test's, `synced_pages`.
"""

from __future__ import annotations

import os
import signal

from sync_history.sources import Run, source

PAGES = 10


@source("paged", retries=PAGES)
async def paged(run: Run) -> None:
    db = run.services.db
    done = run.state.get("page", 0)
    for page in range(done + 1, PAGES + 1):
        async with db.transaction():
            await db.execute("INSERT INTO synced_pages (page, run) VALUES ($1, $2)", page, run.id)
            await run.save_state({"page": page})
        run.synced()
        os.kill(os.getpid(), signal.SIGKILL)
