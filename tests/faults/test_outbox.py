"""Messages survive the application's death: each that was committed arrives, and who gets one twice
can tell."""

from __future__ import annotations

import asyncio
import base64
import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import pytest

from tests.home.outbox.receivers import MailServer, Receiver, mail_server, receiver
from tests.live import Live
from tests.postgres import Server, free_port

pytestmark = [pytest.mark.any_version, pytest.mark.direct]

SECRET = "whsec_" + base64.b64encode(b"a key of thirty-two bytes, or so").decode()
PUT = """
    INSERT INTO outbox (channel, recipient, kind, content)
    VALUES ($1, $2, 'load', '{"title": "x", "text": "y", "path": "/"}') RETURNING uuid::text
"""


WAITING = "SELECT count(*) FROM outbox WHERE sent_at IS NULL"


def settings(hooks: Receiver, mails: MailServer) -> dict[str, str]:
    return {
        "PUBLIC_URL": "http://127.0.0.1", "MAIL_FROM": "tools@example.com", "SMTP_URL": mails.url,
        "WEBHOOK_URL": hooks.url, "WEBHOOK_SECRET": SECRET, "WEBHOOK_PRIVATE": "true",
    }  # fmt: skip


def arrived(hooks: Receiver, mails: MailServer) -> Counter[str]:
    """How often each message came, by its id."""
    found = Counter(headers["webhook-id"] for headers, _ in hooks.requests)
    found.update(str(mail["message-id"])[1:].partition("@")[0] for mail in mails.mails)
    return found


@asynccontextmanager
async def telling(url: str, hooks: Receiver, committed: set[str]) -> AsyncIterator[None]:
    """Store messages, some of which are rolled back, for the length of the block."""
    stop = asyncio.Event()

    async def tell() -> None:
        connection = await asyncpg.connect(url)
        places = [("webhook", hooks.url), ("mail", "ada@example.com")]
        while not stop.is_set():
            transaction = connection.transaction()
            await transaction.start()
            uuid = await connection.fetchval(PUT, *random.choice(places))
            if random.random() < 0.1:
                await transaction.rollback()
            else:
                await transaction.commit()
                committed.add(uuid)
            await asyncio.sleep(0.01)
        await connection.close()

    teller = asyncio.create_task(tell())
    try:
        yield
    finally:
        stop.set()
        await teller


async def killed(server: Server, times: int) -> tuple[set[str], Counter[str]]:
    """Kill the application again and again while there is something to tell."""
    committed: set[str] = set()
    async with receiver() as hooks, mail_server() as mails:
        hooks.pause = mails.pause = 0.005
        env = {**settings(hooks, mails), "LISTEN_PORT": str(free_port())}
        live = Live(server.url(), **env)
        await asyncio.to_thread(live.wait_until_it_serves)
        async with telling(server.url(), hooks, committed):
            for _ in range(times):
                before = len(hooks.requests) + len(mails.mails)
                async with asyncio.timeout(120):
                    while len(hooks.requests) + len(mails.mails) < before + 5:
                        await asyncio.sleep(0.01)
                await asyncio.sleep(random.uniform(0, 0.2))
                await asyncio.to_thread(live.kill)
                live = Live(server.url(), **env)
        connection = await asyncpg.connect(server.url())
        # What was claimed by the dead is theirs for a minute.
        await connection.execute("UPDATE outbox SET claimed_until = now()")
        try:
            async with asyncio.timeout(120):
                while await connection.fetchval(WAITING):
                    await asyncio.sleep(0.1)
        finally:
            await connection.close()
            await asyncio.to_thread(live.end)
        return committed, arrived(hooks, mails)


async def check(server: Server, times: int) -> None:
    committed, found = await killed(server, times)
    twice = sum(number > 1 for number in found.values())
    print(f"{times} kills: {len(committed)} committed, {len(found)} arrived, {twice} of them twice")
    assert set(found) == committed


async def test_kill_9(server: Server) -> None:
    await check(server, 2)


@pytest.mark.long
async def test_kill_9_fifty_times(server: Server) -> None:
    await check(server, 50)


@pytest.mark.long
async def test_a_receiver_that_is_down_and_postgresql_that_restarts(server: Server) -> None:
    """What is told meanwhile comes afterwards."""
    committed: set[str] = set()
    async with receiver() as hooks, mail_server() as mails:
        live = Live(server.url(), **settings(hooks, mails))
        await asyncio.to_thread(live.wait_until_it_serves)
        hooks.status = 503
        await mails.stop()
        for _ in range(3):
            async with telling(server.url(), hooks, committed):
                await asyncio.sleep(1)
            await asyncio.to_thread(server.stop, "immediate")
            await asyncio.to_thread(server.start)
        hooks.status = 204
        await mails.start()
        connection = await asyncpg.connect(server.url())
        async with asyncio.timeout(120):
            while await connection.fetchval(WAITING):
                await connection.execute(
                    "UPDATE outbox SET next_at = now(), claimed_until = NULL WHERE sent_at IS NULL"
                )  # rather than waiting for an hour
                await asyncio.sleep(3)
        await connection.close()
        await asyncio.to_thread(live.end)
        found = arrived(hooks, mails)
        print(f"three restarts: {len(committed)} committed, {len(found)} arrived")
        assert set(found) >= committed
