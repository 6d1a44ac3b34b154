"""What one connection may send, and how long it may take: our protocol with short limits.

The limits as they are, and the whole application, are in tests/faults/test_connections.py.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvicorn
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse

from home.web import connections
from home.web.connections import RESERVE, Connections
from home.web.http_protocol import (
    MAX_BODY_BYTES,
    MAX_HEAD_BYTES,
    MAX_HEADERS,
    MAX_PIPELINED,
    MAX_URL_BYTES,
    BoundedProtocol,
    Owes,
)
from tests.postgres import free_port

PATIENCE = {
    Owes.NOTHING: float("inf"),
    Owes.FIRST_REQUEST: 0.2,
    Owes.REQUEST: 0.4,
    Owes.HEAD: 1.0,
    Owes.BODY: 1.0,
    Owes.READING: 1.0,
    Owes.LEAVING: 0.2,
}
LARGE = 20_000_000  # bytes, more than the system buffers
GET = b"GET / HTTP/1.1\r\nHost: test\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: test\r\n"


class Application:
    """Answers with what it was asked; `/slow` once it is told to, `/large` and `/stream` with much.

    `hung_up` counts requests whose body did not arrive.
    """

    def __init__(self) -> None:
        self.go_on = asyncio.Event()
        self.at_work = 0
        self.hung_up = 0
        self.headers: list[tuple[bytes, bytes]] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        request = Request(scope, receive)
        self.at_work += 1
        try:
            answer = await self.answer(request)
        except Exception:  # as RequestFilter does
            self.hung_up += 1
            return
        await answer(scope, receive, send)

    async def answer(self, request: Request) -> Response:
        path = request.url.path
        if path in ("/slow", "/metrics"):
            await self.go_on.wait()
        if path == "/large":
            return PlainTextResponse("x" * LARGE)
        if path == "/stream":
            return StreamingResponse("x" * 2**16 for _ in range(1000))
        if path == "/early":
            return PlainTextResponse("too large", 413)
        body = await request.body()
        self.headers = request.scope["headers"]
        return PlainTextResponse(f"{path} {len(body)}")


class Served:
    """A running server."""

    def __init__(self, app: Application, port: int, peers: Connections) -> None:
        self.app = app
        self.port = port
        self.peers = peers

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port)

    async def exchange(self, *parts: bytes, pause: float = 0.0) -> str:
        """Send some bytes, and return all that comes until the server closes."""
        reader, writer = await self.connect()

        async def send() -> None:
            for part in parts:
                writer.write(part)
                await writer.drain()
                await asyncio.sleep(pause)

        sending = asyncio.create_task(send())
        received = b""
        try:
            async with asyncio.timeout(10):
                while some := await reader.read(2**16):
                    received += some
        except ConnectionError:
            received += b"(reset)"
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)
            writer.close()
        return received.decode()

    async def status(self, *parts: bytes, pause: float = 0.0) -> int:
        """Return the status of the only answer, which says what went wrong in our format."""
        received = await self.exchange(*parts, pause=pause)
        assert received.startswith("HTTP/1.1 "), received
        assert received.count("HTTP/1.1") == 1, received
        status = int(received.split()[1])
        if status >= 400:
            assert json.loads(received.partition("\r\n\r\n")[2])["error"]["message"]
            assert "\r\nconnection: close\r\n" in received
            assert "\r\nx-content-type-options: nosniff\r\n" in received
        return status


@asynccontextmanager
async def serving(limit: int = 100, leaving: float = 0.2) -> AsyncIterator[Served]:
    class Quick(BoundedProtocol):
        peers = Connections(limit)
        patience = PATIENCE | {Owes.LEAVING: leaving}

    app, port = Application(), free_port()
    options: dict[str, Any] = {"lifespan": "off", "log_config": None, "access_log": False}
    config = uvicorn.Config(app, port=port, http=Quick, ws="none", **options)
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    try:
        yield Served(app, port, Quick.peers)
    finally:
        app.go_on.set()
        for writer in app.__dict__.get("writers", []):
            writer.close()
        server.should_exit = True
        await task


@pytest.fixture
async def served(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Served]:
    monkeypatch.setattr(connections, "SWEEP_SECONDS", 0.05)
    async with serving() as served:
        yield served


def closing(head: bytes) -> bytes:
    """A head whose answer ends the connection."""
    return head.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")


async def test_an_ordinary_request(served: Served) -> None:
    assert (await served.exchange(closing(GET))).endswith("/ 0")
    body = POST + b"Connection: close\r\nContent-Length: 5\r\n\r\nhello"
    assert (await served.exchange(body)).endswith("/ 5")
    assert (await served.exchange(*(bytes([each]) for each in body))).endswith("/ 5")


@pytest.mark.parametrize("size", [10, 1000, 10**6])
async def test_a_url_has_an_end(served: Served, size: int) -> None:
    def head(length: int) -> list[bytes]:
        whole = closing(GET.replace(b"/ ", b"/" + b"a" * (length - 1) + b" "))
        return [whole[at : at + size] for at in range(0, len(whole), size)]

    assert await served.status(*head(MAX_URL_BYTES)) == 200
    assert await served.status(*head(MAX_URL_BYTES + 1)) == 414
    assert await served.status(*head(MAX_HEAD_BYTES * 3)) == 414


@pytest.mark.parametrize("size", [10, 1000, 10**6])
async def test_headers_have_an_end(served: Served, size: int) -> None:
    def head(length: int) -> list[bytes]:
        rest = length - len("/hosttestconnectionclosex")
        whole = closing(GET).replace(b"\r\n\r\n", b"\r\nx: " + b"a" * rest + b"\r\n\r\n")
        return [whole[at : at + size] for at in range(0, len(whole), size)]

    assert await served.status(*head(MAX_HEAD_BYTES - 50)) == 200
    assert await served.status(*head(MAX_HEAD_BYTES + 1)) == 431
    assert await served.status(*head(MAX_HEAD_BYTES * 3)) == 431


async def test_so_has_their_number(served: Served) -> None:
    def head(number: int) -> bytes:
        return closing(GET).replace(b"\r\n\r\n", b"\r\n" + b"a:b\r\n" * (number - 2) + b"\r\n")

    assert await served.status(head(MAX_HEADERS)) == 200
    assert await served.status(head(MAX_HEADERS + 1)) == 431
    assert await served.status(head(MAX_HEADERS + 2)[:-2]) == 431  # and no end in sight


@pytest.mark.parametrize(
    "endless",
    [
        GET[:-2] + b"a: b\r\n" * 10**5,
        GET[:-2] + b"a" * 10**6,
        GET[:-2] + b"a: " + b"b" * 10**6,
        b"\r\n" * 10**5,
        POST + b"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n" + b"a: b\r\n" * 10**5,
        POST + b"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\na: " + b"b" * 10**6,
        POST + b"Transfer-Encoding: chunked\r\n\r\n1;" + b"a" * 10**6,
    ],
)
@pytest.mark.parametrize("size", [1000, 10**7])
async def test_what_never_ends_is_refused(served: Served, endless: bytes, size: int) -> None:
    parts = [endless[at : at + size] for at in range(0, len(endless), size)]
    assert await served.status(*parts) == 431


async def test_trailers_are_no_headers(served: Served) -> None:
    head = POST + b"Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunks = b"5\r\nhello\r\n0\r\nX-Forwarded-For: 10.0.0.1\r\n\r\n"
    assert (await served.exchange(head, chunks, pause=0.05)).endswith("/ 5")
    assert b"x-forwarded-for" not in dict(served.app.headers)


async def test_a_body_that_nobody_takes_has_an_end(served: Served) -> None:
    head = POST.replace(b"/", b"/early", 1) + b"Content-Length: 100000000\r\n\r\n"
    answer = await served.exchange(head, *([b"x" * 2**16] * (MAX_BODY_BYTES // 2**16 * 4)))
    assert answer.startswith("HTTP/1.1 413")


async def test_a_body_that_somebody_takes_has_one(served: Served) -> None:
    head = POST + b"Content-Length: 100000000\r\n\r\n"
    assert await served.status(head, *([b"x" * 2**16] * (MAX_BODY_BYTES // 2**16 * 2))) == 413
    assert served.app.hung_up == 1


async def test_who_was_refused_may_not_go_on() -> None:
    async with serving(leaving=60) as served:
        _, writer = await served.connect()
        sent = 0
        with pytest.raises(ConnectionError):
            while sent < 100 * MAX_BODY_BYTES:
                writer.write(b"x" * 2**16)
                await writer.drain()
                sent += 2**16
        writer.close()


async def test_who_says_nothing_is_told_nothing(served: Served) -> None:
    assert await served.exchange() == ""
    assert await served.exchange(b"\r\n", b"\r\n") == ""


@pytest.mark.parametrize("part", [b"G", GET[:-1], GET[:-2] + b"a: b"])
async def test_a_head_has_its_time(served: Served, part: bytes) -> None:
    assert await served.status(part) == 408


async def test_a_byte_now_and_then_is_no_request(served: Served) -> None:
    assert await served.status(*(bytes([each]) for each in GET * 3), pause=0.1) == 408
    body = POST + b"Content-Length: 100\r\n\r\n"
    assert await served.status(body, *([b"x"] * 100), pause=0.1) == 408
    assert served.app.hung_up == 1
    chunked = POST + b"Transfer-Encoding: chunked\r\n\r\n"
    assert await served.status(chunked, *([b"1\r\nx\r\n"] * 100), pause=0.1) == 408


async def test_a_connection_that_is_not_used_ends(served: Served) -> None:
    answer = await served.exchange(GET)
    assert answer.endswith("/ 0")
    assert answer.count("HTTP/1.1") == 1


async def test_one_that_is_used_goes_on(served: Served) -> None:
    answers = await served.exchange(*([GET] * 10), pause=0.1)
    assert answers.count("HTTP/1.1 200") == 10


async def test_an_answer_may_take_its_time(served: Served) -> None:
    asking = asyncio.create_task(served.exchange(closing(GET.replace(b"/", b"/slow", 1))))
    await asyncio.sleep(1)
    served.app.go_on.set()
    assert (await asking).endswith("/slow 0")


async def test_requests_sent_ahead_are_answered_in_turn(served: Served) -> None:
    paths = [f"/{number}" for number in range(MAX_PIPELINED)]
    heads = [GET.replace(b"/", path.encode(), 1) for path in paths]
    answers = await served.exchange(b"".join(heads))
    assert [f"{path} 0" in answers for path in paths] == [True] * MAX_PIPELINED
    assert [answers.index(f"{path} 0") for path in paths] == sorted(
        answers.index(f"{path} 0") for path in paths
    )


async def test_but_not_any_number_of_them(served: Served) -> None:
    slow = GET.replace(b"/", b"/slow", 1)
    asking = asyncio.create_task(served.exchange(slow + GET * 5000))
    await asyncio.sleep(0.3)
    served.app.go_on.set()
    assert 1 <= (await asking).count("HTTP/1.1 200") <= MAX_PIPELINED + 1
    assert served.app.at_work <= MAX_PIPELINED + 1


async def test_nonsense_after_a_request_does_not_take_its_answer(served: Served) -> None:
    slow = GET.replace(b"/", b"/slow", 1)
    asking = asyncio.create_task(served.exchange(slow + b"nonsense\r\n\r\n"))
    await asyncio.sleep(0.5)
    served.app.go_on.set()
    answer = await asking
    assert answer.count("HTTP/1.1") == 1
    assert answer.endswith("/slow 0")


async def test_nonsense(served: Served) -> None:
    assert await served.status(b"nonsense\r\n\r\n") == 400
    assert await served.status(POST + b"Transfer-Encoding: chunked\r\n\r\nnonsense\r\n") == 400
    assert served.app.hung_up == 1


async def test_another_protocol_is_not_spoken(served: Served) -> None:
    upgrade = b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\n\r\n"
    answer = await served.exchange(GET[:-2] + upgrade + GET)
    assert answer.startswith("HTTP/1.1 200 OK")
    assert "\r\nconnection: close\r\n" in answer
    assert answer.count("HTTP/1.1") == 1


async def held(served: Served, number: int, first: bytes = b"") -> list[asyncio.StreamReader]:
    """Connections that stay."""
    readers, at_work = [], served.app.at_work + (number if first else 0)
    for _ in range(number):
        reader, writer = await served.connect()
        writer.write(first)
        served.app.__dict__.setdefault("writers", []).append(writer)
        readers.append(reader)
        await asyncio.sleep(0.001)
    async with asyncio.timeout(5):
        while served.app.at_work < at_work:
            await asyncio.sleep(0.01)
    await asyncio.sleep(0.05)
    return readers


async def test_who_waits_gives_way_to_who_asks() -> None:
    async with serving(limit=20) as served:
        before = await held(served, 20)
        assert (await served.exchange(closing(GET))).endswith("/ 0")
        assert len(served.peers.open) <= 20
        assert [reader.at_eof() for reader in before] == [True] * 2 + [False] * 18


async def test_who_is_being_answered_does_not() -> None:
    async with serving(limit=10) as served:
        await held(served, 10, GET.replace(b"/", b"/slow", 1))
        assert served.app.at_work == 10
        assert await served.status(closing(GET)) == 503
        health = GET.replace(b"/", b"/health/live", 1)
        assert (await served.exchange(closing(health))).startswith("HTTP/1.1 200")
        idle = await held(served, RESERVE * 3)
        assert len(served.peers.open) <= 10 + RESERVE
        assert (await served.exchange(closing(health))).startswith("HTTP/1.1 200")
        assert any(reader.at_eof() for reader in idle)


async def test_where_there_is_no_place_at_all_nobody_is_answered() -> None:
    async with serving(limit=10) as served:
        await held(served, 10, GET.replace(b"/", b"/slow", 1))
        await held(served, RESERVE, GET.replace(b"/", b"/metrics", 1))
        assert await served.exchange(closing(GET)) in ("", "(reset)")
        assert served.app.at_work == 10 + RESERVE


@pytest.mark.parametrize("path", [b"/large", b"/stream"])
async def test_who_does_not_read_is_cut_off(served: Served, path: bytes) -> None:
    [reader] = await held(served, 1, GET.replace(b"/", path, 1))
    async with asyncio.timeout(5):
        while served.peers.open:
            await asyncio.sleep(0.05)
    assert not reader.at_eof()


async def test_who_reads_slowly_is_not(served: Served) -> None:
    reader, writer = await served.connect()
    writer.write(closing(GET.replace(b"/", b"/large", 1)))
    size = 0
    while some := await reader.read(2**16):
        size += len(some)
        await asyncio.sleep(0.005)
    assert size > LARGE
    writer.close()


async def test_answers_that_wait_have_a_size_all_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "MAX_BUFFERED_BYTES", 2 * LARGE)
    async with serving() as served:
        for _ in range(10):
            await held(served, 1, GET.replace(b"/", b"/large", 1))
            buffered = sum(each.transport.get_write_buffer_size() for each in served.peers.open)
            assert buffered <= 2 * LARGE
        assert len(served.peers.open) >= 2
