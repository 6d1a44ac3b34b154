"""Programs side by side, measured in turn, since absolute figures drift."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack

from benchmarks.bench import Bench
from benchmarks.people import Contestant, wrk
from benchmarks.report import Goal, Row, compare

ROUNDS = 5


def race(
    bench: Bench,
    id_: str,
    make: Sequence[Callable[[Bench, str], Contestant]],
    path: str,
    method: str,
    goals: dict[str, Goal],
) -> list[Row]:
    """Each program has a database of its own on the one server; the first is ours."""
    samples: dict[str, list[float]] = {}
    with ExitStack() as stack:
        contestants = []
        for number, each in enumerate(make):
            url = stack.enter_context(bench.server.empty_database(f"race_{number}"))
            contestant = each(bench, url)
            bench.say(f"{id_}: starting {contestant.program.name}")
            stack.enter_context(contestant.program.started(bench.logs))
            contestants.append(contestant)
        for number in range(ROUNDS + 1):  # the first round warms up
            for contestant in contestants:
                name = contestant.program.name
                bench.say(f"{id_}: round {number} of {ROUNDS}, {name}")
                seconds = bench.seconds if number else 1
                rate = contestant.rate(wrk(), path, method, seconds, bench.logs)
                if number:
                    samples.setdefault(name, []).append(rate)
    return compare(id_, "req/s", samples, goals)
