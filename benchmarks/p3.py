"""P3: a signed-in person changes a preference; old and new value are recorded with the change."""

from __future__ import annotations

from benchmarks import people
from benchmarks.bench import Bench
from benchmarks.race import race
from benchmarks.report import Goal, Row

GOALS = {
    "Express 5 + pg": Goal(2.2, "at least"),
    "Django 5.2": Goal(9, "at least"),
    "floor: one statement": Goal(0.65, "at least"),
}


def run(bench: Bench) -> list[Row]:
    """Express records by hand in a transaction, Django by auditlog, the floor in one statement."""
    contestants = (people.ours, people.floor, people.express, people.django)
    return race(bench, "P3", contestants, "/api/me/preferences", "PUT", GOALS)
