"""Random faults, one after another; afterwards everything is as it was: nothing leaks."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import asyncpg
import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.faults.load import Load, under_load
from tests.live import Live, running
from tests.postgres import Server
from tests.proxy import Proxy, proxied

SECONDS = float(os.environ.get("SOAK_SECONDS", "1800"))
PAUSE = min(30.0, SECONDS / 10)  # from one fault to the next
BACKENDS = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'groundwork%'"
END = """
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE application_name LIKE 'groundwork%'
"""


def faults(server: Server, proxy: Proxy) -> dict[str, Callable[[], Awaitable[object]]]:
    async def kill() -> None:
        await asyncio.to_thread(server.kill)
        await asyncio.to_thread(server.start)

    async def stop() -> None:
        await asyncio.to_thread(server.stop, "immediate")
        await asyncio.to_thread(server.start)

    async def pause() -> None:
        server.signal(signal.SIGSTOP)
        await asyncio.sleep(7)
        server.signal(signal.SIGCONT)

    async def drop() -> None:
        proxy.drop()
        await asyncio.sleep(7)
        proxy.heal()

    async def terminate() -> None:
        await ask(server, END)

    return {f.__name__: f for f in (kill, stop, pause, drop, terminate)}


async def ask(server: Server, sql: str) -> int:
    connection = await asyncpg.connect(server.url())
    found: int = await connection.fetchval(sql)
    await connection.close()
    return found


async def figures(live: Live, server: Server) -> dict[str, float]:
    """What could leak, once nobody asks for anything and idle connections are closed."""
    await asyncio.sleep(15)
    async with httpx.AsyncClient(base_url=live.address) as client:
        text = (await client.get("/metrics")).text
    found = {
        sample.name: sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    return {
        "connections": await ask(server, BACKENDS),
        "file descriptors": len(list(Path(f"/proc/{live.process.pid}/fd").iterdir())),
        "tasks": found["groundwork_tasks"],
        "memory": found["process_resident_memory_bytes"],
    }


async def hurt_for(
    seconds: float, load: Load, possible: dict[str, Callable[[], Awaitable[object]]]
) -> list[str]:
    """Faults in random order until the time is over, each of them followed by recovery."""
    done: list[str] = []
    end = time.monotonic() + seconds
    while time.monotonic() < end or len(done) < len(possible):
        name = random.choice(sorted(set(possible) - set(done)) or sorted(possible))
        await possible[name]()
        await load.until_acknowledged(20)
        done.append(name)
        await asyncio.sleep(min(PAUSE, max(0, end - time.monotonic())))
    return done


@pytest.mark.soak
@pytest.mark.direct
async def test_everything_is_as_it_was_after_random_faults(server: Server) -> None:
    env = {"DB_IDLE_TIMEOUT_MS": "3000", "AUDIT_SEAL_INTERVAL": "60", "LOG_LEVEL": "error"}
    async with proxied(server.url()) as (proxy, through):
        possible = faults(server, proxy)
        with running(through, **env) as live:
            async with under_load(live.address) as load:  # everything has been in use once
                await hurt_for(0, load, possible)
            before = await figures(live, server)
            async with under_load(live.address) as load:
                done = await hurt_for(SECONDS, load, possible)
            count = await load.count(server.url())
            after = await figures(live, server)
    print(f"soak: {len(done)} faults, {count}\n  before {before}\n  after  {after}")
    assert load.wrong == []
    assert (count.lost, count.duplicated) == (0, 0)
    for name, value in before.items():
        assert after[name] <= value * 1.05, name
