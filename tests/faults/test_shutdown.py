"""R14: SIGTERM under load, also while packets are dropped, and before a database was ever there."""

from __future__ import annotations

import asyncio
import time

import pytest

from tests.faults.load import under_load
from tests.live import Live, running
from tests.postgres import Server, free_port
from tests.proxy import proxied

pytestmark = pytest.mark.direct


async def exit_of(live: Live) -> float:
    """SIGTERM; returns how many seconds it took to exit, which must be at most ten."""
    started = time.monotonic()
    async with asyncio.timeout(10):
        output = await asyncio.to_thread(live.end)
    assert live.process.returncode == 0, output
    assert "Traceback" not in output, output
    return time.monotonic() - started


@pytest.mark.parametrize("dropped", [False, True])
async def test_it_drains_and_exits(server: Server, dropped: bool) -> None:
    async with proxied(server.url()) as (proxy, through):
        with running(through) as live:
            async with under_load(live.address) as load:
                if dropped:
                    proxy.drop()
                    await asyncio.sleep(0.3)
                seconds = await exit_of(live)
            assert load.wrong == []
        proxy.heal()
        await asyncio.sleep(0.2)
    count = await load.count(server.url())
    print(f"R14 {'packets dropped' if dropped else 'under load'}: {seconds:.2f} s, {count}")
    assert (count.lost, count.duplicated) == (0, 0)


async def test_it_exits_while_it_waits_for_its_database() -> None:
    with running(f"postgresql://someone@127.0.0.1:{free_port()}/db") as live:
        assert await exit_of(live) < 10
