"""R16: the address leads to a server that takes no changes, or to another one than before."""

from __future__ import annotations

import asyncio
import time

import httpx
import pytest

import piccolo_conf
from home.tables import User
from tests.conftest import PASSWORD, browser, create_app, enter
from tests.faults.load import SLACK, Load, under_load
from tests.faults.pair import (
    OURS,
    READ_ONLY,
    RELOAD,
    WRITABLE,
    ask,
    until_acknowledged,
    until_refused,
)
from tests.live import Live, running
from tests.postgres import Server
from tests.proxy import Proxy, proxied

pytestmark = pytest.mark.direct


async def health(live: Live) -> httpx.Response:
    return await asyncio.to_thread(live.get, "/api/health")


@pytest.mark.long
@pytest.mark.parametrize("how", ["killed", "demoted"])
async def test_another_server_takes_over_behind_the_same_address(
    pair: tuple[Server, Server], how: str
) -> None:
    primary, standby = pair
    async with proxied(primary.url()) as (proxy, through):
        with running(through) as live:
            async with under_load(live.address) as load:
                took = await take_over(proxy, primary, standby, load, live, how)
                after = len(load.acknowledged)
                await load.until_acknowledged(50)
                settled = time.monotonic()
                await load.until_acknowledged(50)
                stayed = 0 if how == "killed" else await ask(primary, OURS)
                refused = [when for when in load.refused if when > settled]
                assert (await health(live)).json()["status"] == "ok"
            count = await load.count(standby.url())
    print(
        f"R16 {how}: {count.acknowledged} acknowledged ({after} before), {count.found} found,"
        f" {count.lost} lost, {count.duplicated} twice; {len(load.refused)} x 503; writes again"
        f" {took:.2f} s after the promotion; {stayed} connections on the old server"
    )
    assert load.wrong == []
    assert (count.lost, count.duplicated) == (0, 0)
    assert stayed == 0
    assert refused == []
    assert took < 2 * SLACK


async def take_over(
    proxy: Proxy, primary: Server, standby: Server, load: Load, live: Live, how: str
) -> float:
    """Seconds from the promotion to the first change that is acknowledged."""
    target = ("127.0.0.1", standby.port)
    if how == "killed":
        primary.kill()
        proxy.target = target
        await until_refused(load)
    else:  # and goes on serving those that are connected
        await ask(primary, READ_ONLY, RELOAD)
        await until_refused(load)
        proxy.target = target
    async with asyncio.timeout(5):
        while (found := (await health(live)).json())["database"].get("error") != "read_only":
            await asyncio.sleep(0.01)
    assert found["status"] == "degraded"
    assert (await asyncio.to_thread(live.get, "/health")).status_code == 503
    await asyncio.to_thread(standby.promote)
    return await until_acknowledged(load)


async def test_a_server_that_turns_read_only_serves_readers_and_recovers(server: Server) -> None:
    email = f"p{time.monotonic_ns()}@example.com"
    await User.create_user(email, PASSWORD, is_approved=True)
    app = create_app(piccolo_conf.SETTINGS, piccolo_conf.DB)
    async with app.router.lifespan_context(app), browser(app) as client:
        await enter(client, email)
        assert (await client.put("/api/me/preferences", json={"n": 1})).is_success
        await ask(server, "UPDATE sessions SET last_seen_at = NULL")
        await ask(server, READ_ONLY, RELOAD)
        try:
            await until_change_is(client, 503)
            answer = await client.put("/api/me/preferences", json={"n": 2})
            assert answer.headers["retry-after"] == "2"
            assert answer.json()["error"]["code"] == "database_unavailable"
            assert (await client.get("/api/me/preferences")).status_code == 200
            report = (await client.get("/api/health")).json()
            assert report["status"] == "degraded"
            assert report["database"]["connected"] is True
            assert report["database"]["error"] == "read_only"
            assert (await client.get("/health")).status_code == 503
        finally:
            sql = "SET transaction_read_only = off"
            await ask(server, sql, WRITABLE, RELOAD)
        started = time.monotonic()
        await until_change_is(client, 200)
        took = time.monotonic() - started
        for _ in range(50):
            assert (await client.put("/api/me/preferences", json={"n": 3})).status_code == 200
        assert (await client.get("/health")).status_code == 200
    print(f"R16 read-only: writes again {took:.2f} s after it was right, none refused after")


async def until_change_is(client: httpx.AsyncClient, status: int) -> None:
    async with asyncio.timeout(2 * SLACK):
        while (answer := await client.put("/api/me/preferences", json={"n": 0})).status_code != (
            status
        ):
            assert answer.status_code in (200, 503), answer.text


async def test_a_server_that_is_not_the_one_asked_for_is_named(server: Server) -> None:
    with running(server.url() + "?target_session_attrs=standby") as live:
        report = (await health(live)).json()
        assert report["database"] == {"connected": False, "error": "wrong_server"}
        body = {"email": "nobody@example.com", "password": "wrong"}
        async with httpx.AsyncClient(base_url=live.address) as client:
            answer = await client.post("/api/sign-in", json=body)
        assert answer.status_code == 503
        output = await asyncio.to_thread(live.end)
    assert "target_session_attrs" in output
    assert "Traceback" not in output
