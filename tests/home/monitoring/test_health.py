"""Health tells the truth, at once, whatever the database does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest

import piccolo_conf
from home.config.settings import Settings
from home.database.engine import Engine
from home.database.pool import IS_READ_ONLY
from home.database.probe import Probe
from tests.conftest import browser, create_app, installed_server, point_at
from tests.live import running
from tests.postgres import free_port
from tests.proxy import proxied


@pytest.fixture
async def probe(db: Engine) -> AsyncIterator[Probe]:
    probe = Probe(db)
    yield probe
    await probe.close()


async def test_connected(client: httpx.AsyncClient) -> None:
    answer = await client.get("/api/health")
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    body = answer.json()
    assert body["status"] == "ok"
    assert body["database"].keys() == {"connected", "latencyMs"}
    assert body["database"]["connected"] is True


async def test_ready_and_live(client: httpx.AsyncClient) -> None:
    ready = await client.get("/health")
    assert ready.status_code == 200
    assert ready.json()["services"] == {"postgres": "connected"}
    assert (await client.get("/health/live")).json()["status"] == "ok"


async def test_disconnected(client: httpx.AsyncClient) -> None:
    point_at("postgresql://someone:s3cret@127.0.0.1:1/db")
    report = await client.get("/api/health")
    assert report.status_code == 200
    assert report.json()["status"] == "degraded"
    assert report.json()["database"] == {"connected": False, "error": "refused"}
    ready = await client.get("/health")
    assert ready.status_code == 503
    assert ready.json()["services"] == {"postgres": "disconnected"}
    assert (await client.get("/health/live")).status_code == 200


async def test_details_are_for_those_who_may_see_them(client: httpx.AsyncClient) -> None:
    await client.get("/api/health")
    details = (await client.get("/api/health?details")).json()["database"]
    assert details["pool"]["max"] == 20
    assert details["pendingMigrations"] == []
    assert details["serverVersion"]
    for headers in ({"x-forwarded-for": "127.0.0.1"}, {"forwarded": "for=127.0.0.1"}):
        answer = await client.get("/api/health?details", headers=headers)
        assert "pool" not in answer.json()["database"]


async def test_details_are_not_for_strangers(url: str) -> None:
    app = create_app(piccolo_conf.SETTINGS, piccolo_conf.DB)
    async with app.router.lifespan_context(app), browser(app, "203.0.113.9") as stranger:
        assert "pool" not in (await stranger.get("/api/health?details")).json()["database"]


async def test_a_full_pool_is_no_dead_database(db: Engine, probe: Probe) -> None:
    held = [await db.acquire() for _ in range(db.settings.db_pool_max)]
    assert (await probe.verdict()).connected
    for connection in held:
        await db.release(connection)


async def test_a_thousand_callers_share_one_question(url: str, probe: Probe) -> None:
    await probe.verdict()
    asked = probe._connection
    seen: list[str] = []
    assert asked is not None
    asked.add_query_logger(lambda record: seen.append(record.query))
    verdicts = await asyncio.gather(*[probe.verdict() for _ in range(1000)])
    await asyncio.sleep(0)
    assert all(verdict.connected for verdict in verdicts)
    assert seen == [IS_READ_ONLY]


async def test_an_impatient_caller_does_not_spoil_it_for_the_others(probe: Probe) -> None:
    first = asyncio.create_task(probe.verdict())
    second = asyncio.create_task(probe.verdict())
    await asyncio.sleep(0)
    first.cancel()
    assert (await second).connected


async def test_dropped_packets_are_a_timeout_and_one_connection(url: str) -> None:
    async with proxied(url) as (proxy, through):
        proxy.drop()
        probe = Probe(Engine(Settings(database_url=through)))
        verdicts = await asyncio.gather(*[probe.verdict() for _ in range(50)])
        assert {verdict.error for verdict in verdicts} == {"timeout"}
        # The probe goes on; who asks now is told at once, and no further connection is made.
        assert (await probe.verdict()).error == "timeout"
        assert proxy.accepted == 1
        proxy.heal()
        while not (await probe.verdict()).connected:
            await asyncio.sleep(0.01)
        await probe.close()


async def test_a_probe_recovers_from_a_connection_that_went_silent(url: str) -> None:
    async with proxied(url) as (proxy, through):
        db = Engine(Settings(database_url=through, db_connection_timeout_ms=500))
        probe = Probe(db)
        assert (await probe.verdict()).connected
        proxy.drop()
        assert (await probe.verdict()).error == "timeout"
        await asyncio.sleep(0.2)
        proxy.heal()
        while not (await probe.verdict()).connected:
            await asyncio.sleep(0.01)
        await probe.close()


def test_the_application_starts_before_its_database_and_finds_it_later() -> None:
    server = installed_server()
    with running(server.url(), ENVIRONMENT="development") as live:
        assert live.get("/api/health").json()["database"]["error"] == "refused"
        assert live.get("/health").status_code == 503
        server.start()
        while live.get("/health").status_code != 200:
            pass
        server.kill()
        while live.get("/health").status_code != 503:
            pass
        server.start()
        while live.get("/health").status_code != 200:
            pass
    server.remove()


@pytest.mark.any_version
async def test_the_application_starts_while_packets_are_dropped(url: str) -> None:
    async with proxied(url) as (proxy, through):
        proxy.drop()

        def visit() -> tuple[str, int]:
            with running(through) as live:
                error = live.get("/api/health").json()["database"]["error"]
                proxy.heal()
                while live.get("/health").status_code != 200:
                    pass
                output = live.end()
                assert "Traceback" not in output, output
                return error, live.process.returncode

        assert await asyncio.to_thread(visit) == ("timeout", 0)


async def test_no_database_is_a_503_that_says_when_to_come_back(
    client: httpx.AsyncClient,
) -> None:
    await piccolo_conf.DB.close_connection_pool()
    point_at(f"postgresql://someone:s3cret@127.0.0.1:{free_port()}/db")
    client.cookies.set("id", "a-token")
    answer = await client.get("/admin/api/tables/")
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "2"
    assert answer.json()["error"]["code"] == "database_unavailable"
    assert "s3cret" not in answer.text


async def test_unknown_paths_are_told_in_the_one_format(client: httpx.AsyncClient) -> None:
    answer = await client.get("/no/such/path")
    assert answer.status_code == 404
    assert answer.json() == {"error": {"message": "Not Found", "code": "not_found"}}
