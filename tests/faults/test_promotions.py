"""R16: two hosts in DATABASE_URL, whose roles change again and again."""

from __future__ import annotations

import asyncio
import signal

import httpx
import pytest

from tests.faults.load import Load, under_load
from tests.faults.pair import (
    OURS,
    READ_ONLY,
    RELOAD,
    ask,
    several,
    stand_by,
    until_acknowledged,
    until_refused,
)
from tests.live import Live, running
from tests.postgres import Server

pytestmark = [pytest.mark.direct, pytest.mark.long]
PROMOTIONS = 10
HOW = ("killed", "hangs", "read-only")


async def test_ten_promotions_under_load_lose_nothing(pair: tuple[Server, Server]) -> None:
    primary, standby = pair
    url = several(primary, standby)
    gaps: list[float] = []
    try:
        with running(url) as live:
            async with under_load(live.address) as load:
                for number in range(PROMOTIONS):
                    how = HOW[number % len(HOW)]
                    await promote(primary, standby, how, load, gaps, live)
                    primary, standby = standby, await stand_by_again(primary, standby, load)
                    assert live.connections_to(standby.port) == 0
            output = live.end()
        count = await load.count(primary.url())
        print(
            f"R16, {PROMOTIONS} promotions, two hosts: {count.acknowledged} acknowledged,"
            f" {count.found} found, {count.lost} lost, {count.duplicated} twice;"
            f" {len(load.refused)} x 503, slowest answer {load.slowest:.1f} s; writes again after"
            f" {max(gaps):.2f} s at most: {' '.join(f'{gap:.2f}' for gap in gaps)}"
        )
        assert load.wrong == []
        assert (count.lost, count.duplicated) == (0, 0)
        assert output.count("database_moved") == PROMOTIONS
        assert "Traceback" not in output
        assert "never retrieved" not in output
        assert "postgres:postgres" not in output
    finally:
        primary.remove()
        standby.remove()


async def promote(
    primary: Server,
    standby: Server,
    how: str,
    load: Load,
    gaps: list[float],
    live: Live,
) -> None:
    """Have the standby take over, and note the seconds until a change is acknowledged."""
    if how == "killed":
        primary.kill()
    elif how == "hangs":
        primary.signal(signal.SIGSTOP)
    else:  # and goes on serving those that are connected
        await ask(primary, READ_ONLY, RELOAD)
    if not gaps:
        await until_refused(load)
        await is_said(live)
    await asyncio.to_thread(standby.promote)
    gaps.append(await until_acknowledged(load))
    await load.until_acknowledged(20)
    if how == "hangs":
        primary.signal(signal.SIGCONT)
    await until_left(live, primary)


async def until_left(live: Live, server: Server) -> None:
    """The server itself does not know: a commit that waits for a standby notices nothing."""
    async with asyncio.timeout(5):
        while live.connections_to(server.port):
            await asyncio.sleep(0.02)


async def is_said(live: Live) -> None:
    """No server takes changes: requests get the documented answer, and health says why."""
    async with httpx.AsyncClient(base_url=live.address) as client:
        report = (await client.get("/api/health")).json()
        assert report["database"] == {"connected": False, "error": "wrong_server"}
        assert (await client.get("/health")).status_code == 503
        body = {"email": "nobody@example.com", "password": "wrong"}
        answer = await client.post("/api/sign-in", json=body)
        assert answer.status_code == 503
        assert answer.headers["retry-after"] == "2"
        assert answer.json()["error"]["code"] == "database_unavailable"


async def stand_by_again(old: Server, primary: Server, load: Load) -> Server:
    """The old primary comes back as a standby, where nobody looks for the primary."""
    port = old.port
    await asyncio.to_thread(old.remove)
    standby = await stand_by(primary, port)
    await load.until_acknowledged(20)
    return standby


async def test_reads_of_the_replica_follow_the_new_roles(pair: tuple[Server, Server]) -> None:
    primary, standby = pair
    url = several(primary, standby)
    try:
        with running(url, DATABASE_REPLICA_URL=url) as live:
            await until_usable(live, True)
            assert await ask(standby, OURS) > 0
            primary.kill()
            await asyncio.to_thread(standby.promote)
            await until_usable(live, False)
            port = primary.port
            primary.remove()
            primary, standby = standby, await stand_by(standby, port)
            await until_usable(live, True)
            assert await ask(standby, OURS) > 0, "the old primary is the replica now"
    finally:
        primary.remove()
        standby.remove()


async def until_usable(live: Live, wanted: bool) -> None:
    async with asyncio.timeout(20), httpx.AsyncClient(base_url=live.address) as client:
        while True:
            found = (await client.get("/api/health?details")).json()["database"]["replica"]
            if found["usable"] is wanted:
                return
            await asyncio.sleep(0.05)
