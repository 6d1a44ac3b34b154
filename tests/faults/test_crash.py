"""R3, R8: PostgreSQL is killed under load, once and fifty times. R5: it falls silent."""

from __future__ import annotations

import asyncio
import random
import signal
import time
from collections.abc import Callable

import httpx
import pytest

from tests.conftest import run_piccolo
from tests.faults.load import SLACK, Count, Load, under_load
from tests.live import running
from tests.postgres import Server
from tests.proxy import proxied

pytestmark = pytest.mark.direct


async def down_and_up(server: Server, load: Load, down: Callable[[], None]) -> float:
    """Let it fail and come back; returns how many seconds after it was ready it was used again."""
    await asyncio.to_thread(down)
    await asyncio.sleep(random.uniform(0, 0.2))
    await asyncio.to_thread(server.start)
    ready = time.monotonic()
    await load.until_acknowledged(1)
    first = min(moment for moment in load.acknowledged.values() if moment > ready)
    await load.until_acknowledged(20)
    return first - ready


@pytest.mark.parametrize("how", ["kill -9", "immediate stop"])
async def test_after_a_crash_nothing_acknowledged_is_missing(server: Server, how: str) -> None:
    down = server.kill if how == "kill -9" else lambda: server.stop("immediate")
    with running(server.url()) as live:
        async with under_load(live.address) as load:
            back = await down_and_up(server, load, down)
            healed = time.monotonic()
            await load.until_acknowledged(100)
            assert load.refused, "it was not down"
            assert max(load.refused) < healed, "errors go on after it is back"
        assert load.wrong == []
        assert back < SLACK
        count = await load.count(server.url())
    print(f"R3 {how}: {count}, first success {back:.2f} s after ready")
    assert (count.lost, count.duplicated) == (0, 0)


@pytest.mark.long
async def test_fifty_crashes_and_the_chain_is_intact(server: Server) -> None:
    with running(server.url(), AUDIT_SEAL_INTERVAL="1") as live:
        async with under_load(live.address) as load:
            worst = max([await down_and_up(server, load, server.kill) for _ in range(50)])
        count = await load.count(server.url())
    print(f"R8: {count}, first success at most {worst:.2f} s after ready")
    assert load.wrong == []
    assert (count.lost, count.duplicated) == (0, 0)
    for command in ("seal", "verify"):
        done = await asyncio.to_thread(run_piccolo, server.url(), "audit", command)
        assert done.returncode == 0, done.stdout + done.stderr
    assert count.acknowledged > 1000


@pytest.mark.long
@pytest.mark.parametrize(
    ("how", "seconds"),
    [("packets dropped", 30), ("server stopped", 30)],
)
async def test_silence_ends_every_request_in_time(server: Server, how: str, seconds: int) -> None:
    async with proxied(server.url()) as (proxy, through):
        with running(through) as live:
            async with under_load(live.address) as load:
                health = asyncio.create_task(slowest_health(live.address, seconds))
                silence: Callable[[], None] = proxy.drop
                heal: Callable[[], None] = proxy.heal
                if how == "server stopped":
                    silence = lambda: server.signal(signal.SIGSTOP)  # noqa: E731
                    heal = lambda: server.signal(signal.SIGCONT)  # noqa: E731
                silence()
                try:
                    slowest = await health
                finally:
                    heal()
                healed = time.monotonic()
                await load.until_acknowledged(1)
                back = min(m for m in load.acknowledged.values() if m > healed) - healed
                await load.until_acknowledged(50)
            count = await load.count(server.url())
    print(
        f"R5 {how} {seconds} s: {count}, slowest request {load.slowest:.2f} s, "
        f"slowest health {slowest:.2f} s, works {back:.2f} s after healing"
    )
    assert load.wrong == []
    assert load.slowest < 7 * SLACK
    assert slowest < 0.5 * SLACK
    assert back < 2 * SLACK
    assert isinstance(count, Count)
    assert (count.lost, count.duplicated) == (0, 0)


async def slowest_health(address: str, seconds: float) -> float:
    """Ask for so long; returns the slowest answer, in seconds."""
    slowest, end = 0.0, time.monotonic() + seconds
    async with httpx.AsyncClient(base_url=address) as client:
        while (started := time.monotonic()) < end:
            assert (await client.get("/api/health")).status_code == 200
            slowest = max(slowest, time.monotonic() - started)
            await asyncio.sleep(0.05)
    return slowest
