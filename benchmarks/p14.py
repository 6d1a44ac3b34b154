"""P14: a trail of a million rows sealed and verified, against only reading the same rows."""

from __future__ import annotations

import json
import sys
from statistics import median

from benchmarks import programs
from benchmarks.bench import Bench
from benchmarks.process import timed
from benchmarks.report import Goal, Row
from benchmarks.tools import ROOT

ROWS, ROUNDS = 1_000_000, 3
FLOOR = "read through the same cursor"
GOALS = {"seal": Goal(4, "at most"), "verify": Goal(3, "at most")}


def run(bench: Bench) -> list[Row]:
    """All in one process and in turn; ratios are to the floor, round by round."""
    bench.say(f"P14: sealing and verifying {ROWS:,} rows")
    log = bench.logs / "sealing.log"
    with bench.server.empty_database("sealing") as url:
        variables = {"DATABASE_URL": url, "LOG_LEVEL": "error", "DB_COMMAND_TIMEOUT_MS": "60000"}
        timed((programs.piccolo(), "home", "migrate"), ROOT, log, **variables)
        command = (sys.executable, "-m", "benchmarks.sealing", str(ROWS), str(ROUNDS))
        timed(command, ROOT, log, **variables)
    seconds = json.loads(log.read_text().splitlines()[-1])
    floor = seconds["read"]
    rows = [Row("P14", FLOOR, median(floor), "s", floor)]
    for name, goal in GOALS.items():
        ratio = median(a / b for a, b in zip(seconds[name], floor, strict=True))
        figure, met = median(seconds[name]), goal.is_met(ratio)
        rows.append(Row("P14", name, figure, "s", seconds[name], ratio, str(goal), met))
        work = seconds[f"{name}, processor"]
        rows.append(Row("P14", f"{name}, processor time of Python", median(work), "s", work))
    return rows
