"""P1: `GET /api/health` with a live database, requests per second of one process."""

from __future__ import annotations

import re
import subprocess
from contextlib import ExitStack

from benchmarks import programs
from benchmarks.bench import Bench
from benchmarks.process import Program
from benchmarks.report import Goal, Row, compare
from benchmarks.tools import BenchmarkError, find

ROUNDS = 5
CONNECTIONS = 32
GOALS = {"static JSON": Goal(0.8, "at least"), "Express 5 + pg": Goal(2.5, "at least")}


def run(bench: Bench) -> list[Row]:
    """All programs run side by side and are measured in turn, since absolute figures drift."""
    wrk = find("wrk")
    with ExitStack() as stack:
        url = stack.enter_context(bench.server.empty_database("health"))
        contestants = [
            programs.ours(url),
            programs.with_uvicorn("static JSON", "static"),
            programs.with_uvicorn("floor: Starlette + asyncpg", "floor", url),
            programs.with_uvicorn("stock Piccolo", "stock_piccolo", url),
            programs.express(url, bench.say),
            programs.django(url, bench.say),
        ]
        for program in contestants:
            bench.say(f"P1: starting {program.name}")
            stack.enter_context(program.started(bench.logs))
            assert program.answer()["database"]["connected"], program.name
        samples: dict[str, list[float]] = {program.name: [] for program in contestants}
        for number in range(ROUNDS):
            for program in contestants:
                bench.say(f"P1: round {number + 1} of {ROUNDS}, {program.name}")
                requests_per_second(wrk, program, 1)  # warm up
                samples[program.name].append(requests_per_second(wrk, program, bench.seconds))
    return compare("P1", "req/s", samples, GOALS)


def requests_per_second(wrk: str, program: Program, seconds: float) -> float:
    """Load a program with 32 connections.

    Raises:
        BenchmarkError: an answer was no 200.
    """
    command = [wrk, "-t1", f"-c{CONNECTIONS}", f"-d{seconds:g}s", program.url]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = re.search(r"Requests/sec:\s+([\d.]+)", output)
    if found is None or "Non-2xx" in output or "Socket errors" in output:
        raise BenchmarkError(f"{program.name} did not answer all requests:\n{output}")
    return float(found.group(1))
