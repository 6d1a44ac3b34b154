"""P6: from the start of the process to the first 200 of `/api/health`."""

from __future__ import annotations

from benchmarks import programs
from benchmarks.bench import Bench
from benchmarks.report import Goal, Row, compare

ROUNDS = 5
GOALS = {"bare Starlette": Goal(0.9, "at most")}


def run(bench: Bench) -> list[Row]:
    """Rounds alternate between the programs; a first round, unmeasured, fills the caches."""
    samples: dict[str, list[float]] = {}
    with bench.server.empty_database("start") as url:
        for number in range(ROUNDS + 1):
            for program in (programs.ours(url), programs.bare()):
                bench.say(f"P6: round {number} of {ROUNDS}, {program.name}")
                with program.started(bench.logs) as seconds:
                    if number:
                        samples.setdefault(program.name, []).append(seconds)
    return compare("P6", "s", samples, GOALS)
