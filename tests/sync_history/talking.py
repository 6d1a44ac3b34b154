"""Sources that log: SYNC_SOURCES=tests.sync_history.talking."""

from __future__ import annotations

import asyncio
import logging

import structlog

from sync_history.sources import Run, SyncFailed, source

PLAIN = logging.getLogger("crm.client")
STRUCTURED = structlog.get_logger("crm.structured")


@source("talking")
async def talking(run: Run) -> None:
    PLAIN.warning("page %d of %s\x1b[31m", 1, "crm")
    STRUCTURED.warning("page_read", page=2, path="/people")
    await asyncio.to_thread(PLAIN.error, "from a thread")
    try:
        raise ValueError("wrong page")
    except ValueError:
        PLAIN.exception("page 3 is wrong")
        STRUCTURED.exception("page_wrong", page=3)
    raise SyncFailed("That was all.")
