"""Runs as a terminal shows them."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from json import dumps

from audit.database import Record
from audit.printable import printable
from sync_history.reporting import Progress
from sync_history.runner import Execution
from sync_history.tables import SyncRun

COLUMNS = ("id", "source", "status", "started_at", "duration_ms", "items_synced", "items_failed")


def figures(execution: Execution) -> tuple[int, int | None]:
    """Return how many items are done, and how many there are."""
    progress = execution.run.progress if execution.run else Progress()
    return progress.synced + progress.failed, progress.total


def print_outcome(ended: SyncRun, execution: Execution) -> None:
    """Print notes, failures, and a line for the whole."""
    details = (execution.run.progress.details if execution.run else None) or {}
    for note in details.get("notes", ()):
        print(printable(note))
    if left_out := details.get("notes_left_out"):
        print(f"... and {left_out} more")
    for failure in details.get("failures", ()):
        line = f"{failure['item']}: {failure['error']}"
        print(printable(line), file=sys.stderr)
    if left_out := details.get("failures_left_out"):
        print(f"... and {left_out} more failed", file=sys.stderr)
    seconds = (ended.duration_ms or 0) / 1000
    figures = f"{ended.items_synced} synced, {ended.items_failed} failed, {seconds:.1f} s"
    print(f"run {ended.id}: {ended.status}; {figures}")
    if ended.error_message:
        print(printable(ended.error_message), file=sys.stderr)
    elif ended.attention_reason:
        print(printable(ended.attention_reason), file=sys.stderr)


def print_runs(found: Sequence[SyncRun]) -> None:
    """Print a table for a person at a terminal, else lines with tabs."""
    rows = [[_cell(getattr(run, name)) for name in COLUMNS] for run in found]
    if not sys.stdout.isatty():
        for row in [list(COLUMNS), *rows]:
            print(*row, sep="\t")
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(*(name.replace("_", " ") for name in COLUMNS))
    for row in rows:
        table.add_row(*map(Text, row))
    Console().print(table)


def _cell(value: object) -> str:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(sep=" ", timespec="seconds")
    return "" if value is None else printable(str(value))


def print_line(line: Record, *, json: bool) -> None:
    """Print a line of a log, on one line."""
    at = line["at"].isoformat(timespec="milliseconds")
    if json:
        print(dumps({"at": at, "level": line["level"], "text": line["text"]}))
    else:
        print(at, line["level"], printable(line["text"]), sep="\t")
