"""Small charts, drawn by a template as SVG: no script, and the colours of the stylesheet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import NamedTuple

WIDTH, HEIGHT = 420, 190  # so small that a phone need not make its text smaller
TOP, BOTTOM, CHARACTER = 8, 24, 7.6
STEPS = (1, 2, 5)
MOST_TICKS = 5


class Series(NamedTuple):
    """Numbers, one for each day.

    Args:
        colour: of the stylesheet's classes `is-...`: good, warn, bad, soft, or 1 to 8, which mean
            nothing.
    """

    name: str
    values: Sequence[int]
    colour: str


class Bar(NamedTuple):
    """A part of a column: a number of one series."""

    colour: str
    x: float
    y: float
    width: float
    height: float
    title: str


class Tick(NamedTuple):
    """A label at an axis, and where it stands."""

    label: str
    at: float


@dataclass(frozen=True)
class Chart:
    """Stacked bars, one for each day."""

    days: Sequence[date]
    series: Sequence[Series]

    width, height = WIDTH, HEIGHT

    @property
    def top(self) -> int:
        """Return the number at the upper end: a round one."""
        return ticks(max(map(sum, self._columns()), default=0))[-1]

    @property
    def left(self) -> float:
        """Return where the bars begin, right of the numbers."""
        return len(f"{self.top:,}") * CHARACTER + 8

    def numbers(self) -> list[Tick]:
        """Return what stands at the left."""
        return [Tick(f"{number:,}", self._y(number)) for number in ticks(self.top)]

    def dates(self) -> list[Tick]:
        """Return what stands below: about four days."""
        every = max(len(self.days) // 4, 1)
        wide = self._wide()
        return [
            Tick(f"{day:%b} {day.day}", self.left + (n + 0.5) * wide)
            for n, day in enumerate(self.days)
            if n % every == 0
        ]

    def bars(self) -> list[Bar]:
        """Return the parts of all columns, but for those of nothing."""
        found, wide = [], self._wide()
        for n, (day, column) in enumerate(zip(self.days, self._columns(), strict=True)):
            below = 0
            for each, value in zip(self.series, column, strict=True):
                if value:
                    y, x = self._y(below + value), self.left + n * wide
                    title = f"{day:%b} {day.day}: {value:,} {each.name}"
                    high = self._y(below) - y
                    found.append(Bar(each.colour, x, y, wide * 0.8, high, title))
                below += value
        return found

    def _columns(self) -> list[tuple[int, ...]]:
        if not self.series:
            return [()] * len(self.days)
        return list(zip(*(each.values for each in self.series), strict=True))

    def _wide(self) -> float:
        return (WIDTH - self.left) / max(len(self.days), 1)

    def _y(self, number: int) -> float:
        return HEIGHT - BOTTOM - number * (HEIGHT - TOP - BOTTOM) / self.top


def ticks(highest: int) -> list[int]:
    """Return numbers from 0 to one that is not below the highest; each is 1, 2 or 5 times a power
    of ten away from the next."""
    highest, power = max(highest, 1), 1
    while True:
        for step in (power * each for each in STEPS):
            if highest <= step * (MOST_TICKS - 1):
                return list(range(0, highest + step, step))
        power *= 10
