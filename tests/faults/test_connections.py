"""Clients that send too much, or too slowly, or nothing: the running application, its own limits.

What one connection may do is in tests/home/web/test_http_protocol.py, with shorter times.
"""

from __future__ import annotations

import asyncio
import resource
import socket
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import asyncpg
import httpx
import pytest

from home.tables import User
from tests.conftest import PASSWORD
from tests.faults.load import SLACK
from tests.live import Live
from tests.postgres import Server

pytestmark = pytest.mark.direct

HEALTH_SECONDS = 0.5
MEMORY_MB = 30
GET = b"GET /health/live HTTP/1.1\r\nHost: test\r\n"
POST = b"POST /api/sign-in HTTP/1.1\r\nHost: test\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n0\r\n"
LINE = b"x-something: " + b"a" * 1000 + b"\r\n"


@contextmanager
def running(url: str, descriptors: int = 0, **env: str) -> Iterator[Live]:
    """The application, with so many descriptors; 0 is as many as there are."""
    limited = ["bash", "-c", f'ulimit -n {descriptors} && exec "$@"', "bash"]
    live = Live(url, limited if descriptors else (), **env)
    try:
        live.wait_until_it_serves()
        yield live
    finally:
        if live.process.poll() is None:
            live.end()


def memory_mb(live: Live) -> float:
    """What the process holds of the machine's memory."""
    status = Path(f"/proc/{live.process.pid}/status").read_text()
    [line] = [line for line in status.splitlines() if line.startswith("VmRSS")]
    return int(line.split()[1]) / 1024


@dataclass
class Watched:
    """What somebody saw who kept asking for health, on a new connection each time."""

    before_mb: float
    peak_mb: float = 0.0
    slowest: float = 0.0
    asked: int = 0
    failures: list[str] = field(default_factory=list)

    async def keep_asking(self, live: Live) -> None:
        while True:
            started = time.monotonic()
            try:
                async with httpx.AsyncClient(timeout=10) as client:
                    answer = await client.get(f"{live.address}/health")
                if answer.status_code != 200:
                    self.failures.append(str(answer.status_code))
            except httpx.TransportError as error:
                self.failures.append(repr(error))
            self.asked += 1
            self.slowest = max(self.slowest, time.monotonic() - started)
            self.peak_mb = max(self.peak_mb, memory_mb(live))
            await asyncio.sleep(0.02)


@asynccontextmanager
async def watched(live: Live, what: str, more_mb: float = MEMORY_MB) -> AsyncIterator[Watched]:
    """Health goes on, and memory hardly grows, while the block does something bad."""
    for _ in range(20):
        live.get("/health")
    seen = Watched(memory_mb(live))
    task = asyncio.create_task(seen.keep_asking(live))
    try:
        yield seen
        await asyncio.sleep(0.1)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    print(
        f"R19 {what}: health at most {seen.slowest:.2f} s, {len(seen.failures)} of {seen.asked} "
        f"failed; memory {seen.before_mb:.0f}, at most {seen.peak_mb:.0f} MB"
    )
    assert seen.failures == []
    assert seen.slowest < HEALTH_SECONDS * SLACK * 2  # without a bound it is ten and more
    assert seen.peak_mb - seen.before_mb < more_mb


async def status_after(live: Live, start: bytes, more: bytes, times: int, pause: float = 0) -> int:
    """Send, whether it is taken or not; return the status of the answer."""
    loop = asyncio.get_running_loop()
    with socket.socket() as client:  # asyncio's streams lose an answer once sending has failed
        client.setblocking(False)
        await loop.sock_connect(client, ("127.0.0.1", live.port))

        async def push() -> None:
            await loop.sock_sendall(client, start)
            for _ in range(times):
                await loop.sock_sendall(client, more)
                await asyncio.sleep(pause)

        pushing = asyncio.create_task(push())
        try:
            answer = await loop.sock_recv(client, 2**16)
        finally:
            pushing.cancel()
            await asyncio.gather(pushing, return_exceptions=True)
    return int(answer.split()[1])


@pytest.mark.parametrize(
    ("what", "start", "more", "expected"),
    [
        ("60 MB of headers", GET, LINE * 60, 431),
        ("60 MB of short headers", GET, b"a: b\r\n" * 10_000, 431),
        ("60 MB in one header", GET + b"a: ", b"b" * 60_000, 431),
        ("60 MB of trailers", CHUNKED, LINE * 60, 431),
        ("a URL of 60 MB", b"GET /", b"a" * 60_000, 414),
    ],
)
async def test_heads_without_end(
    server: Server, what: str, start: bytes, more: bytes, expected: int
) -> None:
    with running(server.url()) as live:
        async with watched(live, what):
            statuses = [await status_after(live, start, more, 1000) for _ in range(5)]
        assert statuses == [expected] * 5
        assert "Traceback" not in live.end()


def hold(live: Live, number: int, first: bytes = b"") -> list[socket.socket]:
    """Open connections as fast as can be, and leave them; returns those that were accepted."""
    held = []
    for _ in range(number):
        try:
            connection = socket.create_connection(("127.0.0.1", live.port), timeout=5)
        except OSError:
            continue
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.sendall(first)
        connection.setblocking(False)
        held.append(connection)
    return held


def still_open(held: list[socket.socket]) -> int:
    """Those of which the server has not let go; what they were sent stays unread."""
    number = 0
    for connection in held:
        try:
            number += connection.recv(1, socket.MSG_PEEK) != b""
        except BlockingIOError:
            number += 1
        except OSError:
            pass
    return number


def let_go(held: list[socket.socket]) -> None:
    for connection in held:
        connection.close()


@pytest.mark.parametrize(
    ("number", "descriptors", "most"),
    [(1200, 1024, 960), (120, 64, 20), pytest.param(5000, 0, 1010, marks=pytest.mark.long)],
)
async def test_idle_connections_give_way(
    server: Server, number: int, descriptors: int, most: int
) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        with running(server.url(), descriptors) as live:
            async with watched(live, f"{number} idle connections"):
                held = await asyncio.to_thread(hold, live, number)
                assert len(held) == number
                await asyncio.sleep(2)
                assert still_open(held) <= most
            let_go(held)
            log = live.end()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert log.count("connections_ended") == 1, log
    assert "Traceback" not in log


@pytest.mark.long
@pytest.mark.parametrize(
    ("what", "start", "expected", "seconds"),
    [
        ("nothing", b"", None, 10),
        ("a head, one byte a second", GET, 408, 10),
        ("a body, one byte a second", POST + b"Content-Length: 1000\r\n\r\n", 408, 30),
        ("chunks, one a second", CHUNKED[:-3], 408, 30),
    ],
)
async def test_the_slow_are_sent_away(
    server: Server, what: str, start: bytes, expected: int | None, seconds: float
) -> None:
    with running(server.url()) as live:
        async with watched(live, what):
            started = time.monotonic()
            clients = [slow_client(live, start, is_silent=not start) for _ in range(100)]
            answers = await asyncio.gather(*clients)
            took = time.monotonic() - started
        print(f"R19 {what}: 100 clients, {expected or 'closed'} after {took:.1f} s")
        assert answers == [expected] * 100
        assert seconds < took < seconds + 5 * SLACK


async def slow_client(live: Live, start: bytes, is_silent: bool) -> int | None:
    """Send a byte a second for a minute; return the status of the answer, if there is one."""
    reader, writer = await asyncio.open_connection("127.0.0.1", live.port)
    writer.write(start)
    more = b"1\r\nx\r\n" if start.startswith(CHUNKED[:-3]) else b"x"

    async def dribble() -> None:
        while not is_silent:
            await asyncio.sleep(1)
            writer.write(more)

    dribbling = asyncio.create_task(dribble())
    try:
        async with asyncio.timeout(60):
            answer = await reader.read(2**16)
    finally:
        dribbling.cancel()
        await asyncio.gather(dribbling, return_exceptions=True)
        writer.close()
    return int(answer.split()[1]) if answer else None


@pytest.mark.long
@pytest.mark.parametrize(("row_kb", "more_mb"), [(10, MEMORY_MB), (100, 250)])
async def test_slow_readers_of_large_lists(server: Server, row_kb: int, more_mb: int) -> None:
    connection = await asyncpg.connect(server.url())
    await connection.execute(
        "INSERT INTO audit_logs (actor, action, resource, details)"
        " SELECT 'x', 'y', $1, jsonb_build_object('a', repeat(md5(n::text), $2))"
        " FROM generate_series(1, 100) n",
        f"large{row_kb}",
        row_kb * 32,
    )
    await connection.close()
    email = f"reader{row_kb}@example.com"
    await User.create_user(email, PASSWORD, is_admin=True, is_approved=True)
    with running(server.url()) as live:
        async with httpx.AsyncClient(base_url=live.address, timeout=30) as client:
            await client.post("/api/sign-in", json={"email": email, "password": PASSWORD})
            path = f"/admin/api/tables/audit_logs/?__page_size=100&resource=large{row_kb}"
            size_mb = len((await client.get(path)).content) / 10**6
            cookie = f"id={client.cookies['id']}"
        request = f"GET {path} HTTP/1.1\r\nHost: test\r\nCookie: {cookie}\r\n\r\n"
        what = f"200 slow readers of {size_mb:.0f} MB"
        async with watched(live, what, more_mb):
            held = await asyncio.to_thread(hold, live, 200, request.encode())
            for _ in range(40):
                await asyncio.sleep(1)
                for each in held:
                    with suppress(OSError):
                        each.recv(10)
        let_go(held)


async def test_a_client_that_hangs_up_is_no_mistake(server: Server) -> None:
    with running(server.url(), LOG_LEVEL="debug") as live:
        for path in ("/api/sign-in", "/admin/public/login/", "/admin/api/forms/approve-a-person/"):
            head = f"POST {path} HTTP/1.1\r\nHost: test\r\nContent-Length: 100\r\n\r\n{{"
            let_go(await asyncio.to_thread(hold, live, 3, head.encode()))
        await asyncio.sleep(0.5)
        log = live.end()
    assert log.count("client_disconnected") == 9, log
    assert "[error" not in log
    assert "Traceback" not in log
