"""P16: memory of a worker after 100,000 requests of a kind, and of commands over large rows."""

from __future__ import annotations

import os
import re
import subprocess
import urllib.request

from benchmarks import people, programs
from benchmarks.bench import Bench
from benchmarks.people import Contestant, wrk
from benchmarks.process import timed
from benchmarks.report import Row
from benchmarks.tools import ROOT, BenchmarkError, environment

SECONDS = 10
KINDS = {
    "health": ("/api/health", "GET", 100_000),
    "who is signed in": ("/api/me", "GET", 100_000),
    "a preference changed": ("/api/me/preferences", "PUT", 100_000),
    "the trail's page": ("/trail", "GET", 10_000),  # each takes as long as thirty of the others
}
ADMINISTRATORS = "UPDATE users SET is_admin = true"
LARGE_ROWS, MEGABYTES = 200, 2
# Of text that does not compress.
FILL = f"""
    INSERT INTO audit_logs (actor, action, resource, resource_id, details)
    SELECT 'somebody', 'papers.update', 'papers', n, jsonb_build_object('after',
        jsonb_build_object('text', (SELECT string_agg(md5(n * 100000 + part || 'x'), '')
                                    FROM generate_series(1, {MEGABYTES * 2**20 // 32}) part)))
    FROM generate_series(1, {LARGE_ROWS}) n
"""
COMMANDS = {
    "export": ("audit", "export"),
    "seal": ("audit", "seal"),
    "verify": ("audit", "verify"),
}
MOST = {"a worker": 130, "a command": 200}


def run(bench: Bench) -> list[Row]:
    """Memory is what the system holds for the process: of commands the most at any time."""
    return [*_worker(bench), *_commands(bench)]


def _worker(bench: Bench) -> list[Row]:
    rows = []
    with bench.server.empty_database("p16") as url:
        contestant = people.ours(bench, url)
        for sql in (ADMINISTRATORS, people.SESSIONS):  # whose rights change is signed out
            bench.server.query(sql, "p16")
        with contestant.program.started(bench.logs):
            for kind, (path, method, requests) in KINDS.items():
                bench.say(f"P16: {requests:,} requests, {kind}")
                done = 0.0
                while done < requests:
                    rate = contestant.rate(wrk(), path, method, SECONDS, bench.logs)
                    done += rate * SECONDS
                rows.append(
                    _row(f"a worker, {done:,.0f} requests later: {kind}", _held(contestant))
                )
    return rows


def _held(contestant: Contestant) -> float:
    """Return the megabytes that the worker says it has."""
    url = contestant.program.url.replace("/api/health", "/metrics")
    with urllib.request.urlopen(url, timeout=10) as response:
        text = response.read().decode()
    found = re.search(r"^process_resident_memory_bytes ([\d.e+]+)", text, re.MULTILINE)
    if found is None:
        raise BenchmarkError("P16: /metrics does not say how much memory there is")
    return float(found[1]) / 2**20


def _commands(bench: Bench) -> list[Row]:
    rows = []
    log = bench.logs / "memory.log"
    with bench.server.empty_database("p16_rows") as url:
        timed((programs.piccolo(), "home", "migrate"), ROOT, log, DATABASE_URL=url)
        bench.server.query(FILL, "p16_rows")
        for name, command in COMMANDS.items():
            bench.say(f"P16: {name} of {LARGE_ROWS} rows of {MEGABYTES} MB")
            with log.open("wb") as output:
                process = subprocess.Popen(
                    [programs.piccolo(), *command], cwd=ROOT, stdout=output, stderr=output,
                    env=environment(DATABASE_URL=url),
                )  # fmt: skip
                _, status, usage = os.wait4(process.pid, 0)
                process.returncode = os.waitstatus_to_exitcode(status)
            if process.returncode:
                raise BenchmarkError(f"P16: {name} exited with {process.returncode}")
            rows.append(_row(f"a command, {name}", usage.ru_maxrss / 2**10))
    return rows


def _row(program: str, megabytes: float) -> Row:
    most = MOST[program.partition(",")[0]]
    goal, met = f"at most {most} MB", megabytes <= most
    return Row("P16", program, megabytes, "MB", [megabytes], None, goal, met)
