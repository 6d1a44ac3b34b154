"""What a provider says over HTTP has an end: in bytes, compressed ones included, and in time."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from pydantic import SecretStr

from home.accounts.sign_on import remote
from home.accounts.sign_on.remote import ProviderDown, Remote
from home.config.providers import Provider

Answer = Callable[[asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def provider_that(answer: Answer) -> AsyncIterator[Remote]:
    serving: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        serving.add(task)
        try:
            await reader.readuntil(b"\r\n\r\n")
            await answer(writer)
        except (ConnectionError, asyncio.CancelledError):
            pass  # the client has heard enough, or the test is over
        finally:
            writer.transport.abort()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    settings = Provider(
        name="acme", issuer=f"http://127.0.0.1:{port}", client_id="us",
        client_secret=SecretStr("x"),
    )  # fmt: skip
    try:
        yield Remote(settings)
    finally:
        server.close()
        for task in serving:
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)
        await server.wait_closed()
        await asyncio.sleep(0)  # transports that were aborted are closed now


def said(body: bytes, status: str = "200 OK", *headers: str) -> Answer:
    async def answer(writer: asyncio.StreamWriter) -> None:
        head = [f"HTTP/1.1 {status}", f"content-length: {len(body)}", *headers, "", ""]
        writer.write("\r\n".join(head).encode() + body)
        await writer.drain()

    return answer


async def endless(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
    while True:
        writer.write(b"10000\r\n" + b" " * 0x10000 + b"\r\n")
        await writer.drain()


async def silent(writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(5)


@pytest.mark.parametrize(
    "answer",
    [
        said(gzip.compress(b" " * 1000), "200 OK", "content-encoding: gzip"),
        said(b"{}", "200 OK", "content-encoding: gzip, gzip"),
        said(b"{}", "302 Found", "location: http://127.0.0.1:1/"),
        said(b"[]"),
        said(b"nonsense"),
        said(b'{"issuer": "https://other.example.com"}'),
        said(b"[" * 100_000),
        said(b"", "500 Oh"),
        endless,
        silent,
    ],
)
async def test_what_cannot_be_used_is_no_answer(
    answer: Answer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "SECONDS", 1.0)
    async with provider_that(answer) as asked:
        with pytest.raises(ProviderDown, match="Acme does not answer"):
            await asked.metadata()
