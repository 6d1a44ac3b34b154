"""P8: 100,000 events put on the trail at once, against COPY of the same rows."""

from __future__ import annotations

import json
import sys

from benchmarks import programs
from benchmarks.bench import Bench
from benchmarks.process import timed
from benchmarks.report import Goal, Row, compare
from benchmarks.tools import ROOT

EVENTS = 100_000
COPY = "COPY of the same rows"


def run(bench: Bench) -> list[Row]:
    """Both in one process and in turn; the figures are events per second."""
    bench.say("P8: recording events")
    log = bench.logs / "bulk.log"
    with bench.server.empty_database("bulk") as url:
        variables = {"DATABASE_URL": url, "LOG_LEVEL": "error", "DB_COMMAND_TIMEOUT_MS": "60000"}
        timed((programs.piccolo(), "home", "migrate"), ROOT, log, **variables)
        timed((sys.executable, "-m", "benchmarks.bulk"), ROOT, log, **variables)
    seconds = json.loads(log.read_text().splitlines()[-1])
    rates = {name: [EVENTS / each for each in times] for name, times in seconds.items()}
    samples = {"Groundwork, record_many": rates["ours"], COPY: rates["copy"]}
    return compare("P8", "rows/s", samples, {COPY: Goal(0.7, "at least")})
