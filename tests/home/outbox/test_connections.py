"""Webhooks go over connections that are kept, as long as both sides like."""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import AsyncIterator
from contextlib import nullcontext, suppress
from pathlib import Path

import pytest
from pydantic import SecretStr

from home.database.engine import Engine
from home.outbox import store, webhooks
from home.outbox.delivery import NotDelivered
from home.outbox.store import Outgoing
from home.outbox.webhooks import Webhooks
from tests.home.config.test_tls import Authority
from tests.home.outbox.receivers import Receiver, receiver
from tests.home.outbox.test_delivery import SECRET, by_hook, deliver, put, row, services

pytestmark = pytest.mark.any_version


@pytest.fixture
async def hooks() -> AsyncIterator[Receiver]:
    async with receiver() as taker:
        yield taker


@pytest.mark.parametrize("content", [b"", b"thank you"])
async def test_connections_are_used_again(db: Engine, hooks: Receiver, content: bytes) -> None:
    hooks.status, hooks.content = 200 if content else 204, content
    for _ in range(3 * store.AT_ONCE):
        await put(db, "webhook", hooks.url)
    await deliver(by_hook(db, hooks))
    assert len(hooks.requests) == 3 * store.AT_ONCE
    assert len(hooks.connections) <= store.AT_ONCE


async def test_a_connection_that_the_receiver_closes_is_not_used_again(
    db: Engine, hooks: Receiver
) -> None:
    hooks.headers = {"connection": "close"}
    for _ in range(3 * store.AT_ONCE):
        await put(db, "webhook", hooks.url)
    await deliver(by_hook(db, hooks))
    assert len(hooks.connections) == len(hooks.requests) == 3 * store.AT_ONCE
    assert await db.fetchval("SELECT max(attempts) FROM outbox") == 1


@pytest.mark.parametrize("pause", [0, 0.1])
async def test_a_receiver_that_closes_without_saying_so(db: Engine, pause: float) -> None:
    """It may do that before the next request, or when it gets it."""

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        [length] = re.findall(rb"content-length: (\d+)", head)
        await reader.readexactly(int(length))
        writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
        if not pause:
            await reader.read(1)
        writer.close()

    async with await asyncio.start_server(take, "127.0.0.1", 0) as server:
        to = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/hook"
        ours = services(db, webhook_private=True, webhook_secret=SecretStr(SECRET))
        async with Webhooks(ours.settings).sending() as send:
            for number in range(5):
                await send(Outgoing(number, "id", to, "kind", {}, 1))
                await asyncio.sleep(pause)


@pytest.mark.parametrize("known", [True, False])
async def test_https(
    db: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, known: bool
) -> None:
    authority = Authority(tmp_path / "ours")
    seen = Authority(tmp_path / "another") if not known else authority
    monkeypatch.setattr(webhooks, "trusted", lambda: ssl.create_default_context(cafile=seen.root))
    connections = 0

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        with suppress(asyncio.IncompleteReadError):
            while head := await reader.readuntil(b"\r\n\r\n"):
                [length] = re.findall(rb"content-length: (\d+)", head)
                await reader.readexactly(int(length))
                writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
        writer.close()

    ours = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    ours.load_cert_chain(*authority.issue("localhost"))
    async with await asyncio.start_server(take, "127.0.0.1", 0, ssl=ours) as server:
        to = f"https://localhost:{server.sockets[0].getsockname()[1]}/hook"
        settings = services(db, webhook_private=True, webhook_secret=SecretStr(SECRET)).settings
        async with Webhooks(settings).sending() as send:
            for number in range(3):
                with nullcontext() if known else pytest.raises(NotDelivered, match="ConnectError"):
                    await send(Outgoing(number, "id", to, "kind", {}, 1))
    assert connections == known


async def test_who_answers_without_an_end_is_not_listened_to(db: Engine) -> None:
    said = 0

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal said
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000000\r\n\r\n")
        with suppress(ConnectionError):
            while True:
                writer.write(b"x" * 10_000)
                await writer.drain()
                said += 10_000
        writer.close()

    async with await asyncio.start_server(talk, "127.0.0.1", 0) as server:
        to = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/hook"
        await put(db, "webhook", to)
        known = {"webhook_url": (to,), "webhook_secret": SecretStr(SECRET)}
        await deliver(services(db, webhook_private=True, **known))
    assert (await row(db))["sent_at"] is not None
    assert said < 50_000_000  # what fits into buffers, too


@pytest.mark.parametrize(
    "address", ["http://127.0.0.1:{port}/hook", "http://ada:l@127.0.0.1:{port}/hook?a=b"]
)
async def test_who_is_named_in_the_address_signs_in(
    db: Engine, hooks: Receiver, address: str
) -> None:
    await put(db, "webhook", address.format(port=hooks.port))
    await deliver(by_hook(db, hooks))
    [(headers, _)] = hooks.requests
    assert headers["host"] == f"127.0.0.1:{hooks.port}"
    expected = "Basic YWRhOmw=" if "@" in address else None
    assert headers.get("authorization") == expected
