"""P13: a million rows archived; a person found among a hundred million archived ones."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from statistics import median

from benchmarks import programs
from benchmarks.bench import Bench
from benchmarks.process import timed
from benchmarks.report import Goal, Row
from benchmarks.tools import BENCH, ROOT

FILES, ROUNDS = 100, 5  # files of a million rows
PLAIN = "DuckDB's own query of the same files"
GOALS = {"person": Goal(1.25, "at most")}
SECONDS = {"archive": 20.0, "person": 2.0}
NAMES = {
    "archive": "archiving a million rows",
    "person": "a person of whom one file knows",
    "newest": "the newest page",
}


def run(bench: Bench) -> list[Row]:
    """Takes 7 GB of disk and a quarter of an hour, most of it to make the files."""
    bench.say(f"P13: archiving a million rows, and making {FILES - 1} more files of them")
    log = bench.logs / "archiving.log"
    with (
        bench.server.empty_database("archiving") as url,
        tempfile.TemporaryDirectory(prefix="archive-", dir=BENCH) as folder,
    ):
        place = Path(folder) / "archive"
        place.mkdir()
        variables = {
            "DATABASE_URL": url, "LOG_LEVEL": "error", "DB_COMMAND_TIMEOUT_MS": "60000",
            "AUDIT_ARCHIVE": str(place), "AUDIT_SEAL_KEY": "x" * 32,
        }  # fmt: skip
        timed((programs.piccolo(), "home", "migrate"), ROOT, log, **variables)
        command = (sys.executable, "-m", "benchmarks.archiving", str(FILES), str(ROUNDS))
        timed(command, ROOT, log, **variables)
    found = json.loads(log.read_text().splitlines()[-1])
    size = found.pop("size")
    bench.note(f"P13: {size['file']} bytes of Parquet, {size['table']} of table and indexes")
    plain = found.pop("plain")
    rows = [Row("P13", PLAIN, median(plain), "s", plain)]
    for name, seconds in found.items():
        figure, most = median(seconds), SECONDS.get(name)
        ratio = None
        goal, met = ("", None) if most is None else (f"at most {most:g} s", figure <= most)
        if name in GOALS:
            ratio = median(a / b for a, b in zip(seconds, plain, strict=True))
            goal = f"{goal}, {GOALS[name]}"
            met = bool(met) and GOALS[name].is_met(ratio)
        rows.append(Row("P13", NAMES[name], figure, "s", seconds, ratio, goal, met))
    return rows
