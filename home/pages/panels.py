"""Parts of the overview: figures and charts, and what needs somebody."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from enum import IntEnum

from home.database.engine import Engine
from home.pages.charts import Chart, Series

DAYS = 14


class Urgency(IntEnum):
    """The order of what needs somebody."""

    NOW = 0  # something is broken, or somebody may have been where nobody should be
    TODAY = 1  # something does not do its work
    SOON = 2  # somebody or something waits for a decision


@dataclass(frozen=True)
class Need:
    """Something that needs somebody.

    Args:
        sentence: what it is, such as "2 people wait for approval."
        href: where to do something about it.
    """

    sentence: str
    href: str | None = None
    urgency: Urgency = Urgency.SOON

    @property
    def is_urgent(self) -> bool:
        return self.urgency is Urgency.NOW


@dataclass(frozen=True)
class Figure:
    """A number, or a short text, and the list behind it, which holds as many rows.

    Args:
        colour: of its bars in the chart, see home.pages.charts.Series.
    """

    label: str
    value: str
    href: str | None = None
    needs_attention: bool = False
    colour: str | None = None


@dataclass(frozen=True)
class Panel:
    """A part of the page: figures, and perhaps a chart with the words that say the same.

    Args:
        needs: what needs somebody; the page begins with those of all panels.
    """

    title: str
    figures: Sequence[Figure] = field(default_factory=tuple)
    chart: Chart | None = None
    alt: str = ""
    needs: Sequence[Need] = field(default_factory=tuple)


PanelSource = Callable[[Engine], Awaitable[Panel | list[Panel]]]


def charted(
    title: str, days: Sequence[date], series: Sequence[Series], hrefs: Sequence[str]
) -> Panel:
    """Return a panel with a chart, and a figure for each series of it.

    Args:
        hrefs: the list behind each series.
    """
    sums = [sum(each.values) for each in series]
    figures = [
        Figure(each.name, f"{total:,}", href, colour=each.colour)
        for each, total, href in zip(series, sums, hrefs, strict=True)
    ]
    words = ", ".join(f"{each.name} {total:,}" for each, total in zip(series, sums, strict=True))
    alt = f"{title}: {words or 'nothing'}."
    return Panel(f"{title}, last {len(days)} days", figures, Chart(days, series), alt)


def last_days() -> list[date]:
    """Those of the charts, oldest first, in UTC."""
    today = datetime.now(UTC).date()
    return [today - timedelta(days=DAYS - 1 - n) for n in range(DAYS)]
