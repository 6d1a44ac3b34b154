"""P9: 100,000 people from a directory, against one INSERT ... ON CONFLICT of the same rows."""

from __future__ import annotations

import json
import sys

from benchmarks import programs
from benchmarks.bench import Bench
from benchmarks.process import timed
from benchmarks.report import Goal, Row, compare
from benchmarks.tools import ROOT

PEOPLE = 100_000
INSERT = "INSERT ... ON CONFLICT of the same rows"


def run(bench: Bench) -> list[Row]:
    """Both in one process and in turn, into the same audited table; people per second."""
    bench.say("P9: a directory of people")
    log, file = bench.logs / "directory.log", bench.logs / "people.csv"
    _write(file.open("w", encoding="utf-8"))
    with bench.server.empty_database("directory") as url:
        variables = {"DATABASE_URL": url, "LOG_LEVEL": "error", "DIRECTORY_URL": str(file)}
        timed((programs.piccolo(), "home", "migrate"), ROOT, log, **variables)
        timed((sys.executable, "-m", "benchmarks.directory"), ROOT, log, **variables)
    seconds = json.loads(log.read_text().splitlines()[-1])
    rates = {name: [PEOPLE / each for each in times] for name, times in seconds.items()}
    samples = {"Groundwork, directory": rates["ours"], INSERT: rates["insert"]}
    rows = compare("P9", "rows/s", samples, {INSERT: Goal(0.5, "at least")})
    again = {"Groundwork, nothing changed": rates["again"]}
    return [*rows, *compare("P9", "rows/s", again, {})]


def _write(file) -> None:
    with file:
        file.write("email,display_name,organization,clerk_id\n")
        for n in range(PEOPLE):
            file.write(f"person{n}@example.com,Person {n},Organisation {n % 100},clerk_{n}\n")
