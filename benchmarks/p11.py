"""P11: the requests of P2 and P3 served by 1, 2 and 4 workers, ours and the floor's."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace

from benchmarks import people
from benchmarks.bench import Bench
from benchmarks.people import Contestant
from benchmarks.race import race
from benchmarks.report import Goal, Row

WORKERS = (1, 2, 4)
# What is asked, how, and the least part of the floor's rate with as many processes.
REQUESTS = (("read", "GET", "/api/me", 0.8), ("write", "PUT", "/api/me/preferences", 0.6))

Make = Callable[[Bench, str], Contestant]


def run(bench: Bench) -> list[Row]:
    """Each number of workers is measured beside the floor's, and beside one worker of ours."""
    rows: list[Row] = []
    for what, method, path, least in REQUESTS:
        for number in WORKERS:
            floor = f"{what}, {number}: floor"
            make = [_ours(f"{what}, {number}: Groundwork", number), _floor(floor, number)]
            if number > 1:
                make.append(_ours(f"{what}, 1 beside {number}: Groundwork", 1))
            is_fair = number <= (os.cpu_count() or 1)  # else they only wait for each other
            goals = {floor: Goal(least, "at least")} if is_fair else {}
            rows += race(bench, "P11", make, path, method, goals)
    return rows


def _ours(name: str, workers: int) -> Make:
    def make(bench: Bench, url: str) -> Contestant:
        contestant = people.ours(bench, url)
        variables = {**contestant.program.variables, "WORKERS": str(workers)}
        return replace(
            contestant, program=replace(contestant.program, name=name, variables=variables)
        )

    return make


def _floor(name: str, workers: int) -> Make:
    def make(bench: Bench, url: str) -> Contestant:
        contestant = people.floor(bench, url)
        command = (*contestant.program.command, "--workers", str(workers))
        return replace(contestant, program=replace(contestant.program, name=name, command=command))

    return make
