"""`python -m benchmarks`: measure, print one table, say whether each goal is met."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from rich.console import Console

from benchmarks.bench import Bench
from benchmarks.postgres import postgres
from benchmarks.report import Row, print_table, write_json
from benchmarks.tools import BENCH, BenchmarkError

# Each is a module p1, p2, ... with a `run`; the first line of its docstring says what it measures.
BENCHMARKS = {
    path.stem.upper(): import_module(f"benchmarks.{path.stem}")
    for path in sorted(
        Path(__file__).parent.glob("p[0-9]*.py"), key=lambda path: int(path.stem[1:])
    )
}
# Load average above which the machine is not idle.
QUIET = 0.7


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Compare Groundwork with Express, Django, node-pg-migrate, stock Piccolo and "
        "floors, on a PostgreSQL 15 started for it.\n\n"
        + "\n".join(str(module.__doc__).splitlines()[0] for module in BENCHMARKS.values()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="Needs wrk, node, npm and PostgreSQL 15, and the network the first time: peers are "
        "installed into .bench/. Takes some minutes; leave the machine alone meanwhile. "
        "Exit codes: 0 all goals met, 1 a goal missed, 2 could not be measured, 130 interrupted.",
    )
    parser.add_argument(
        "ids", nargs="*", type=_benchmark, metavar="ID", help="such as P1; all of them by default"
    )
    parser.add_argument(
        "--seconds", type=_seconds, default=3, help="length of a round of P1 (default: 3)"
    )
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="write all rows and samples there, too"
    )
    options = parser.parse_args(arguments)
    if options.json and not options.json.absolute().parent.is_dir():
        parser.error(f"--json: there is no folder {options.json.parent}")
    return options


def _benchmark(text: str) -> str:
    if text.upper() not in BENCHMARKS:
        raise argparse.ArgumentTypeError(f"choose from {', '.join(BENCHMARKS)}")
    return text.upper()


def _seconds(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError("a whole number from 1 on")
    return int(text)


def measure(options: argparse.Namespace, console: Console) -> list[Row]:
    logs = BENCH / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    rows: list[Row] = []
    if os.getloadavg()[0] > QUIET:
        console.print("Note: this machine is busy with something else; the figures will drift.")
    with console.status("starting PostgreSQL") as status, postgres() as server:
        # Where no terminal can show a moving line, each step is a line of its own.
        say = status.update if console.is_terminal else console.print
        bench = Bench(server, logs, options.seconds, say, console.print)
        for id_ in dict.fromkeys(options.ids or BENCHMARKS):
            rows += BENCHMARKS[id_].run(bench)
    return rows


def main() -> int:
    options, progress = parse(), Console(stderr=True)
    # The same way out as with Ctrl-C, so that everything started is stopped.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        rows = measure(options, progress)
    except BenchmarkError as error:
        progress.print(str(error), markup=False, highlight=False, soft_wrap=True)
        return 2
    except KeyboardInterrupt:
        progress.print("Interrupted; everything that was started is stopped.")
        return 130
    print_table(rows, Console())
    if options.json:
        write_json(rows, options.json)
    return 1 if any(row.met is False for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
