"""R18: a clock runs ten years ahead for a while, the database's or the application's. It is named
while it does, and once it is right again nothing waits for ten years."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from html import unescape

import asyncpg
import httpx
import pyotp
import pytest
from pydantic import SecretStr

import piccolo_conf
from home.accounts import authenticator
from home.accounts.second_factor import SecondFactor
from home.accounts.verified_account import account_of
from home.database.migrations import migrate
from home.services import Services
from home.tables import User
from tests.conftest import PASSWORD, enter, installed_server, missing, point_at, run_piccolo
from tests.live import Live, running
from tests.postgres import INSTALL_FAKETIME, Server, with_clock

pytestmark = pytest.mark.direct
YEARS = timedelta(days=3600)
KEY = "k" * 32
SETTINGS = {
    "AUDIT_SEAL_INTERVAL": "1",
    "SYNC_SOURCES": "tests.sync_history.examples",
    "MFA_KEY": KEY,
}


def ahead() -> dict[str, str]:
    env = with_clock("+10y")
    if env is None:
        missing("libfaketime", INSTALL_FAKETIME)
    assert env is not None
    return env


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    """A migrated server of its own, which is running, with people."""
    ahead()
    server = installed_server()
    try:
        server.start()
        db = point_at(server.url())
        await migrate(db)
        rights = {"is_admin": True, "is_superuser": True}
        await User.create_user("ada@example.com", PASSWORD, is_approved=True, **rights)
        for name in ("mel", "pat"):
            await User.create_user(f"{name}@example.com", PASSWORD, is_approved=True)
        yield server
    finally:
        server.remove()


@pytest.fixture
def restart(server: Server) -> Callable[[dict[str, str]], None]:
    """Stop the server, and start it with another clock."""

    def again(env: dict[str, str]) -> None:
        server.stop()
        server.env = env
        server.start()

    return again


@asynccontextmanager
async def connected(server: Server) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(server.url())
    yield connection
    await connection.close()


async def until(condition: Callable[[], Awaitable[object]], seconds: float = 15) -> float:
    """Wait for something to come true; returns after how many seconds it did."""
    started = time.monotonic()
    async with asyncio.timeout(seconds):
        while not await condition():
            await asyncio.sleep(0.1)
    return time.monotonic() - started


def client_of(live: Live) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=live.address, timeout=30, trust_env=False)


async def sign_in(client: httpx.AsyncClient, email: str, password: str = PASSWORD) -> int:
    body = {"email": email, "password": password}
    return (await client.post("/api/sign-in", json=body)).status_code


async def figures(client: httpx.AsyncClient) -> dict[str, float]:
    lines = [line for line in (await client.get("/metrics")).text.splitlines() if line[0] != "#"]
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines}


async def overview(client: httpx.AsyncClient) -> str:
    """The text of the first page."""
    return unescape((await client.get("/")).text)


async def use(client: httpx.AsyncClient) -> int:
    """Do what leaves times behind; returns the id of a run that is under way."""
    for number in range(30):  # throttles Mel, and the address, too
        await sign_in(client, "mel@example.com" if number < 8 else f"{number}@x.com", "a guess")
    for number in range(25):
        body = {"email": f"r{number}@example.com", "password": PASSWORD}
        last = await client.post("/api/register", json=body)
    assert last.status_code == 429
    started = await client.post("/api/sync/slow")
    assert started.status_code == 202, started.text
    return int(started.json()["run"]["id"])


async def test_the_clock_of_the_database(
    server: Server, restart: Callable[[dict[str, str]], None]
) -> None:
    restart(ahead())
    with running(server.url(), **SETTINGS) as live:
        async with client_of(live) as ada:
            await enter(ada, "ada@example.com")
            token = dict(ada.cookies)
            run = await use(ada)
            async with connected(server) as connection:
                seals = "SELECT count(*) FROM audit_seals WHERE created_at > $1"
                later = datetime.now(UTC) + YEARS
                await until(lambda: connection.fetchval(seals, later))
                ticked = "SELECT count(*) FROM sync_history WHERE due_at > $1"
                await until(lambda: connection.fetchval(ticked, later))
            apart = (await figures(ada))["groundwork_clock_ahead_seconds"]
            assert apart < -YEARS.total_seconds()
            assert "behind the database's" in await overview(ada)
        live.kill()  # the run is left as it is
    restart({})
    live = Live(server.url(), **SETTINGS)
    try:
        live.wait_until_it_serves()
        async with client_of(live) as ada, connected(server) as connection:
            ada.cookies.update(token)
            assert (await ada.get("/api/me")).status_code == 401, "a session of the future is good"
            ada.cookies.clear()
            assert await sign_in(ada, "mel@example.com") == 200, "throttled for ten years"
            body = {"email": "new@example.com", "password": PASSWORD}
            assert (await ada.post("/api/register", json=body)).status_code == 202
            ada.cookies.clear()
            for _ in range(7):
                await sign_in(ada, "pat@example.com", "a guess")
            body = {"email": "pat@example.com", "password": PASSWORD}
            waits = await ada.post("/api/sign-in", json=body)
            assert waits.status_code == 429
            assert int(waits.headers["retry-after"]) <= 900
            ada.cookies.clear()
            await enter(ada, "ada@example.com")

            cancelled = await ada.post(f"/api/sync/runs/{run}/cancel")
            assert cancelled.status_code in (200, 202), cancelled.text
            over = "SELECT status IN ('failed', 'cancelled') FROM sync_history WHERE id = $1"
            closed = await until(lambda: connection.fetchval(over, run), 40)
            now = "SELECT count(*) FROM {} WHERE {} BETWEEN now() - interval '1 hour' AND now()"
            sealed = await until(
                lambda: connection.fetchval(now.format("audit_seals", "created_at"))
            )
            # One of the same source may have been under way: it is closed first.
            due_now = now.format("sync_history", "due_at")
            due = await until(lambda: connection.fetchval(due_now), 60)
            found = await figures(ada)
            for table in ("audit_logs", "audit_seals", "sync_history"):
                assert found[f'groundwork_rows_in_the_future{{table="{table}"}}'] > 0
            assert abs(found["groundwork_clock_ahead_seconds"]) < 60
            shown = await overview(ada)
            assert "rows of audit_seals were created in the future: a clock was ahead" in shown
    finally:
        said = live.end()
    assert "times_in_the_future" in said
    assert "due_time_in_the_future" in said
    assert "heartbeat_in_the_future" in said
    verified = await asyncio.to_thread(run_piccolo, server.url(), "audit", "verify")
    assert verified.returncode == 0, verified.stdout + verified.stderr
    print(
        f"R18, database: the run closed {closed:.1f} s after it was cancelled, a seal after"
        f" {sealed:.1f} s, the next due run after {due:.1f} s"
    )


def code_of(secret: str, seconds: float) -> str:
    return pyotp.TOTP(secret).at(int(time.time() + seconds))


async def test_the_clock_of_the_application(server: Server) -> None:
    settings = piccolo_conf.SETTINGS.model_copy(update={"mfa_key": SecretStr(KEY)})
    factor = SecondFactor.of(Services(piccolo_conf.DB, settings))
    ada = await User.objects().get(User.email == "ada@example.com")
    assert ada is not None
    setup = factor.begin(await account_of(piccolo_conf.DB, ada.id))
    await factor.confirm(setup, code_of(setup.secret, 0))
    step = int(time.time()) // authenticator.STEP_SECONDS

    async def sign_in_with_code(client: httpx.AsyncClient, code: str) -> int:
        body = {"email": "ada@example.com", "password": PASSWORD, "code": code}
        answer = await client.post("/api/sign-in", json=body)
        if answer.status_code == 200:
            client.headers["x-csrf-token"] = answer.json()["csrf_token"]
        return answer.status_code

    live = Live(server.url(), **SETTINGS, **ahead())
    try:
        live.wait_until_it_serves()
        async with client_of(live) as client:
            await until(lambda: clock_is_known(client))
            shift = (await figures(client))["groundwork_clock_ahead_seconds"]
            assert shift > YEARS.total_seconds()
            assert await sign_in_with_code(client, code_of(setup.secret, 0)) == 401
            as_wrong = code_of(setup.secret, shift)
            assert await sign_in_with_code(client, as_wrong) == 200  # of a phone as wrong as this
            shown = await overview(client)
            assert "ahead of the database's" in shown
            pruned = await asyncio.to_thread(
                run_piccolo, server.url(), "audit", "prune", "--before=2033-01-01", **ahead()
            )
            assert pruned.returncode == 2, pruned.stdout + pruned.stderr
            assert "in the past" in pruned.stderr
    finally:
        said = live.end()
    assert "clock_is_wrong" in said
    with running(server.url(), **SETTINGS) as live:
        async with client_of(live) as client, connected(server) as connection:
            used = "SELECT last_used_step FROM authenticator_secrets"
            assert await connection.fetchval(used) > step + 1_000_000
            code = code_of(setup.secret, 0)  # of now, also where half a minute ends before the next
            assert await sign_in_with_code(client, code) == 200, "no code works for ten years"
            assert await sign_in_with_code(client, code) == 401, "a code works twice"
            assert await overview(client)
            now = "SELECT count(*) FROM sync_history WHERE due_at > now() - interval '5 seconds'"
            await until(lambda: connection.fetchval(now))
            future = "SELECT count(*) FROM {} WHERE created_at > now() + interval '1 minute'"
            for table in ("audit_logs", "audit_seals", "sessions", "sync_history"):
                assert await connection.fetchval(future.format(table)) == 0, table
    print(f"R18, application: {shift:,.0f} s ahead, nothing that it stored lies in the future")


async def clock_is_known(client: httpx.AsyncClient) -> bool:
    return (await figures(client))["groundwork_clock_ahead_seconds"] != 0
