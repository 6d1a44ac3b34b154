"""P2: `GET /api/me` of 200 signed-in people in turn, requests per second of one process."""

from __future__ import annotations

from benchmarks import people
from benchmarks.bench import Bench
from benchmarks.race import race
from benchmarks.report import Goal, Row

GOALS = {"Express 5 + pg": Goal(2.8, "at least"), "floor: one statement": Goal(0.85, "at least")}


def run(bench: Bench) -> list[Row]:
    """A session check each, with the person's columns in the answer."""
    return race(bench, "P2", (people.ours, people.floor, people.express), "/api/me", "GET", GOALS)
