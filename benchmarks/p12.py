"""P12: from the promotion of a standby to the first acknowledged write, ten times under load."""

from __future__ import annotations

import json
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace

import httpx

from benchmarks import people
from benchmarks.bench import Bench
from benchmarks.postgres import find_binaries
from benchmarks.report import Row
from benchmarks.tools import BenchmarkError
from tests.postgres import Server

PROMOTIONS = 10
WRITERS = 8
MOST_SECONDS = 2.0
HOW = ("killed", "hangs")
RELOAD = "SELECT pg_reload_conf()"
FOUND = """
    SELECT details -> 'after' -> 'preferences' ->> 'value' FROM audit_logs
    WHERE resource = 'user_preferences'
"""


class Queried(Server):
    """A server that is asked with psql."""

    def query(self, sql: str, database: str = "postgres") -> list[str]:
        command = [self.binaries / "psql", "-XAtq", "-v", "ON_ERROR_STOP=1", "-c", sql]
        done = subprocess.run(
            [*command, self.url(database)], capture_output=True, text=True, check=True
        )
        return done.stdout.splitlines()


@dataclass
class Writers:
    """People who change their preferences without a pause, each time to something new."""

    address: str
    headers: Sequence[dict[str, str]]
    acknowledged: set[str] = field(default_factory=set)
    recent: deque[tuple[float, float]] = field(default_factory=lambda: deque(maxlen=100))
    is_over: bool = False

    def write(self, number: int) -> None:
        with httpx.Client(
            base_url=self.address, headers=self.headers[number], timeout=30
        ) as client:
            turn = 0
            while not self.is_over:
                turn += 1
                value, began = f"{number} {turn}", time.monotonic()
                body = json.dumps({"value": value})
                answer = client.put("/api/me/preferences", content=body)
                if answer.status_code == 200:
                    self.acknowledged.add(value)
                    self.recent.append((began, time.monotonic()))
                elif answer.status_code == 503:
                    time.sleep(0.01)
                else:
                    raise BenchmarkError(f"a write was answered with {answer.status_code}")

    def until_acknowledged(self, since: float) -> float:
        """Return when the first write was acknowledged that began after a time."""
        while not (ended := [ended for began, ended in list(self.recent) if began > since]):
            time.sleep(0.002)
        return min(ended)


def run(bench: Bench) -> list[Row]:
    """Synchronous replication: what was acknowledged has to be found."""
    samples: dict[str, list[float]] = {how: [] for how in HOW}
    with ExitStack() as stack:
        primary = Queried(find_binaries())
        servers = [primary]
        stack.callback(lambda: [each.remove() for each in servers])
        primary.start(fsync="on")
        contestant = people.ours(replace(bench, server=primary), primary.url())
        servers.append(standby := _standby(primary))
        program = contestant.program
        program.variables["DATABASE_URL"] = _several(primary, standby)
        stack.enter_context(program.started(bench.logs))
        address = program.url.removesuffix("/api/health")
        with _writing(Writers(address, contestant.headers)) as writers:
            for number in range(PROMOTIONS):
                how = HOW[number % len(HOW)]
                bench.say(f"P12: promotion {number + 1} of {PROMOTIONS}, the primary {how}")
                samples[how].append(_promote(primary, standby, how, writers))
                port = primary.port
                primary.remove()
                primary, standby = standby, _standby(standby, port)
                servers[:] = [primary, standby]
                time.sleep(1)
        found = set(primary.query(FOUND))
    lost = len(writers.acknowledged - found)
    told = f"{len(writers.acknowledged):,} acknowledged, {lost} lost"
    return [_row(how, each, lost, told) for how, each in samples.items()]


def _row(how: str, samples: list[float], lost: int, told: str) -> Row:
    middle = sorted(samples)[len(samples) // 2]
    met = max(samples) <= MOST_SECONDS and lost == 0
    goal = f"each at most {MOST_SECONDS:g} s, 0 lost"
    name = f"the primary {how}, slowest {max(samples):.2f} s; {told}"
    return Row("P12", name, middle, "s", samples, None, goal, met)


@contextmanager
def _writing(writers: Writers) -> Iterator[Writers]:
    threads = [threading.Thread(target=writers.write, args=(n,)) for n in range(WRITERS)]
    for thread in threads:
        thread.start()
    try:
        writers.until_acknowledged(0)
        yield writers
    finally:
        writers.is_over = True
        for thread in threads:
            thread.join()


def _promote(primary: Server, standby: Server, how: str, writers: Writers) -> float:
    """Return the seconds from `pg_ctl promote`, which takes a tenth itself, to a write."""
    if how == "killed":
        primary.kill()
    else:
        primary.signal(signal.SIGSTOP)
    time.sleep(0.2)
    began = time.monotonic()
    standby.promote()
    return writers.until_acknowledged(began) - began


def _standby(primary: Queried, port: int | None = None) -> Queried:
    standby = Queried(primary.binaries, primary)
    standby.port = port or standby.port
    standby.start(fsync="on")
    primary.query("ALTER SYSTEM SET synchronous_standby_names = '*'")
    primary.query(RELOAD)
    while primary.query("SELECT sync_state FROM pg_stat_replication") != ["sync"]:
        time.sleep(0.02)
    return standby


def _several(*servers: Server) -> str:
    places = ",".join(f"127.0.0.1:{server.port}" for server in servers)
    return f"postgresql://postgres:postgres@{places}/postgres"
