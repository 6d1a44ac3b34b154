"""What was measured: one row for each program, ratios of ours to it, goals met or missed."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Literal

from rich.console import Console
from rich.table import Table

Unit = Literal["req/s", "rows/s", "s", "ms", "MB"]


@dataclass(frozen=True)
class Goal:
    """A bound of the ratio «ours / this program»."""

    ratio: float
    bound: Literal["at least", "at most", "below"]

    def __str__(self) -> str:
        return f"{self.bound} {self.ratio:g} x"

    def is_met(self, ratio: float) -> bool:
        checks: dict[str, Callable[[float, float], bool]] = {
            "at least": float.__ge__,
            "at most": float.__le__,
            "below": float.__lt__,
        }
        return checks[self.bound](ratio, self.ratio)


@dataclass(frozen=True)
class Row:
    """One line of the table; `samples` are the rounds behind `figure`."""

    id: str
    program: str
    figure: float
    unit: Unit
    samples: Sequence[float] = ()
    ratio: float | None = None
    goal: str = ""
    met: bool | None = None


def compare(
    id_: str, unit: Unit, samples: dict[str, list[float]], goals: dict[str, Goal]
) -> list[Row]:
    """Compare the first program, which is ours, with each of the others.

    The machine's speed drifts between rounds: the ratio is the median of the rounds' ratios.
    """
    (name, ours), *others = samples.items()
    rows = [Row(id_, name, median(ours), unit, ours)]
    for name, theirs in others:
        ratio = median(a / b for a, b in zip(ours, theirs, strict=True))
        goal = goals.get(name)
        met = goal.is_met(ratio) if goal else None
        text = str(goal) if goal else ""
        rows.append(Row(id_, name, median(theirs), unit, theirs, ratio, text, met))
    return rows


def print_table(rows: Sequence[Row], console: Console) -> None:
    """The one table at the end."""
    table = Table(title="Figures are medians; ratios are ours / this program, round by round")
    for heading in ("id", "program"):
        table.add_column(heading)
    for heading in ("figure", "ratio"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("goal")
    table.add_column("")
    words = {True: "[green]met", False: "[bold red]missed", None: ""}
    for row, previous in zip(rows, [None, *rows], strict=False):
        if previous and previous.id != row.id:
            table.add_section()
        ratio = f"{row.ratio:.2f} x" if row.ratio is not None else ""
        table.add_row(row.id, row.program, _figure(row), ratio, row.goal, words[row.met])
    console.print(table)


def _figure(row: Row) -> str:
    digits = {"req/s": ",.0f", "rows/s": ",.0f", "s": ".3f", "ms": ".2f", "MB": ".0f"}[row.unit]
    return f"{row.figure:{digits}} {row.unit}"


def write_json(rows: Sequence[Row], file: Path) -> None:
    """All rows with their samples, and what they were measured on."""
    machine = {
        "system": platform.platform(),
        "processors": os.cpu_count(),
        "python": platform.python_version(),
    }
    content = {"machine": machine, "rows": [asdict(row) for row in rows]}
    file.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
