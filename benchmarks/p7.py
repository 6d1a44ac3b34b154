"""P7: 50 people sign in at once; the 99th percentile of `/api/health` meanwhile, and when idle."""

from __future__ import annotations

import asyncio
import json
import time
from statistics import quantiles
from urllib.parse import urlsplit

from argon2 import PasswordHasher

from benchmarks import people, programs
from benchmarks.bench import Bench
from benchmarks.report import Goal, Row, compare
from benchmarks.tools import BenchmarkError

ROUNDS = 5
PEOPLE = 50
EVERY = 0.005  # seconds from one health request to the next
IDLE_SECONDS = 2
PASSWORD = "a password of the benchmark"
GOALS = {"the same, idle": Goal(3, "at most")}


def run(bench: Bench) -> list[Row]:
    """Rounds alternate between idle and busy; a first round, unmeasured, warms up."""
    hasher = PasswordHasher(time_cost=2, memory_cost=19_456, parallelism=1)
    samples: dict[str, list[float]] = {"health while 50 sign in": [], "the same, idle": []}
    with bench.server.empty_database("sign_in") as url:
        people.make(bench, url)
        sql = f"UPDATE users SET password_hash = '{hasher.hash(PASSWORD)}'"
        bench.server.query(sql, url.rpartition("/")[2])
        program = programs.ours(url)
        with program.started(bench.logs):
            for number in range(ROUNDS + 1):
                bench.say(f"P7: round {number} of {ROUNDS}")
                busy, idle = asyncio.run(_round(program.url))
                if number:
                    samples["health while 50 sign in"].append(busy)
                    samples["the same, idle"].append(idle)
    return compare("P7", "ms", samples, GOALS)


async def _round(url: str) -> tuple[float, float]:
    """The 99th percentiles, in milliseconds."""
    address = urlsplit(url)
    host, port = str(address.hostname), int(address.port or 80)
    idle = await _watch(host, port, asyncio.sleep(IDLE_SECONDS))
    busy = await _watch(host, port, _all_sign_in(host, port))
    return busy, idle


async def _watch(host, port, work) -> float:
    latencies: list[float] = []
    task = asyncio.ensure_future(work)
    reader, writer = await asyncio.open_connection(host, port)
    request = f"GET /api/health HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()
    while not task.done():
        started = time.perf_counter()
        writer.write(request)
        await _answer(reader)
        latencies.append((time.perf_counter() - started) * 1000)
        await asyncio.sleep(EVERY)
    writer.close()
    await task
    return quantiles(latencies, n=100)[98]


async def _all_sign_in(host, port) -> None:
    await asyncio.gather(*[_sign_in(host, port, number) for number in range(1, PEOPLE + 1)])


async def _sign_in(host, port, number) -> None:
    body = json.dumps({"email": f"p{number}@example.com", "password": PASSWORD}).encode()
    head = (
        f"POST /api/sign-in HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(head.encode() + body)
    status = await _answer(reader)
    writer.close()
    if status != 200:
        raise BenchmarkError(f"a sign-in was answered {status}")


async def _answer(reader) -> int:
    head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
    length = head.partition("content-length: ")[2].partition("\r\n")[0]
    await reader.readexactly(int(length))
    return int(head.split()[1])
