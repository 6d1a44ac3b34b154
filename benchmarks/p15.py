"""P15: an audited write while there are notices to deliver; webhooks delivered to a receiver."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from statistics import median

from benchmarks import people
from benchmarks.bench import Bench
from benchmarks.people import Contestant, wrk
from benchmarks.process import Program
from benchmarks.report import Goal, Row, compare
from benchmarks.tools import ROOT, BenchmarkError

ROUNDS = 5
SECONDS = 15  # of a round: once in it notices are looked for
MESSAGES = 20_000
MOST_SECONDS = 120
WITH, WITHOUT = "Groundwork, with notices and a webhook", "Groundwork, without"
GOAL = Goal(0.9, "at least")
A_SECOND = 1_000
# Ten of them, which is what is told at once.
SUPERUSERS = f"""
    DO $$ BEGIN
        FOR n IN 1 .. 10 LOOP
            INSERT INTO users (email, password_hash, is_approved, is_admin, is_superuser)
            VALUES (gen_random_uuid() || '@example.com', '', true, true, true);
            COMMIT;
            PERFORM pg_sleep({SECONDS / 11});
        END LOOP;
    END $$
"""
PUT = f"""
    INSERT INTO outbox (channel, recipient, kind, content)
    SELECT 'webhook', '{{}}', 'load', '{{{{"title": "A title", "text": "A text", "path": "/"}}}}'
    FROM generate_series(1, {MESSAGES})
"""


def run(bench: Bench) -> list[Row]:
    """The receiver is a process of its own; without it superusers are made just the same."""
    receiver = Program("receiver", (sys.executable, "-m", "benchmarks.receiver"), ROOT)
    return [*_writes(bench, receiver), _deliveries(bench, receiver)]


def _writes(bench: Bench, receiver: Program) -> list[Row]:
    """Rounds alternate; the first, unmeasured, warms up."""
    samples: dict[str, list[float]] = {}
    with ExitStack() as stack:
        stack.enter_context(receiver.started(bench.logs))
        contestants = []
        for number, name in enumerate((WITH, WITHOUT)):
            url = stack.enter_context(bench.server.empty_database(f"p15_{number}"))
            contestant = _contestant(bench, url, name, receiver if name == WITH else None)
            stack.enter_context(contestant.program.started(bench.logs))
            contestants.append((contestant, name, url.rpartition("/")[2]))
        for number in range(ROUNDS + 1):
            for contestant, name, database in contestants:
                bench.say(f"P15: round {number} of {ROUNDS}, {name}")
                with _superusers(bench, database):
                    path, seconds = "/api/me/preferences", SECONDS if number else 1
                    rate = contestant.rate(wrk(), path, "PUT", seconds, bench.logs)
                if number:
                    samples.setdefault(name, []).append(rate)
        if not receiver.answer()["count"]:
            raise BenchmarkError("P15: no notice arrived")
    return compare("P15", "req/s", samples, {WITHOUT: GOAL})


def _deliveries(bench: Bench, receiver: Program) -> Row:
    """Of messages that wait, the rate at which they arrive."""
    samples = []
    with bench.server.empty_database("p15_messages") as url:
        contestant = _contestant(bench, url, WITH, receiver)
        with contestant.program.started(bench.logs):
            for number in range(ROUNDS):
                bench.say(f"P15: round {number + 1} of {ROUNDS}, deliveries")
                with receiver.started(bench.logs):
                    put = PUT.format(_address(receiver))
                    bench.server.query(put, url.rpartition("/")[2])
                    samples.append(MESSAGES / _until_all_arrived(receiver))
    goal, met = f"at least {A_SECOND:,} a second", median(samples) >= A_SECOND
    return Row("P15", "Groundwork, deliveries", median(samples), "req/s", samples, None, goal, met)


def _contestant(bench: Bench, url: str, name: str, receiver: Program | None) -> Contestant:
    """People with sessions, and a webhook if there is a receiver."""
    contestant = people.ours(bench, url)
    variables = {**contestant.program.variables, "LOG_LEVEL": "error"}
    if receiver is not None:
        variables |= {
            "PUBLIC_URL": "http://localhost",
            "WEBHOOK_URL": _address(receiver),
            "WEBHOOK_SECRET": "whsec_" + "a" * 32,
            "WEBHOOK_PRIVATE": "true",
        }
    program = replace(contestant.program, name=name, variables=variables)
    return replace(contestant, program=program)


def _address(receiver: Program) -> str:
    return f"http://127.0.0.1:{receiver.port}/"


@contextmanager
def _superusers(bench: Bench, database: str) -> Iterator[None]:
    """Make some for the length of a round, each of which administrators are told of."""
    thread = threading.Thread(target=bench.server.query, args=(SUPERUSERS, database))
    thread.start()
    yield
    thread.join()


def _until_all_arrived(receiver: Program) -> float:
    """Return the seconds from the first to the last."""
    deadline = time.monotonic() + MOST_SECONDS
    while (answer := receiver.answer())["count"] < MESSAGES:
        if time.monotonic() > deadline:
            raise BenchmarkError(f"P15: {answer['count']} of {MESSAGES} messages arrived")
        time.sleep(0.2)
    return answer["seconds"]
