"""Sources that last as long as a test."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

import piccolo_conf
from audit.tables import AuditLog
from home.database.engine import Engine
from home.services import Services
from sync_history import runner, runs
from sync_history import sources as registry
from sync_history.sources import Function, source
from sync_history.tables import SyncRun


@pytest.fixture
async def registered(
    db: Engine, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Callable[[Function], None]]:
    """Register functions as sources of their own names; at the end nothing of them runs on."""
    monkeypatch.setattr(registry, "_registry", {})

    def register(function: Function) -> None:
        source(getattr(function, "__name__", ""))(function)

    yield register
    await runner.close()


SERVICES = Services.of(piccolo_conf.DB)


async def run_of(name: str, *, dry_run: bool = False, force: bool = False) -> SyncRun:
    """Start a source and wait for its end."""
    services = Services.of(piccolo_conf.DB)  # with the settings that a test may have changed
    started = await runs.start(services.db, name, dry_run=dry_run, force=force)
    async with asyncio.timeout(20):
        await runner.launch(services, started).task
    return await stored(started.id)


async def stored(id: int) -> SyncRun:
    """The run as the database has it."""
    found = await runs.find(id)
    assert found is not None
    return found


async def until(id: int, *status: str) -> SyncRun:
    """The run, once it is in one of these states."""
    async with asyncio.timeout(20):
        while (run := await stored(id)).status not in status:
            await asyncio.sleep(0.05)
    return run


async def trail_of(id: int) -> list[tuple[str, str, Any]]:
    """Action, actor and new state of each record of a run."""
    rows = await AuditLog.select().where(AuditLog.resource_id == str(id)).order_by(AuditLog.id)
    return [
        (row["action"], row["actor"], json.loads(row["details"])["after"].get("status"))
        for row in rows
        if row["resource"] == "sync_history"
    ]
