"""Small bar charts as images: no script, and colours that are readable on dark and on light."""

from __future__ import annotations

import base64
import sys
from collections.abc import Mapping, Sequence
from datetime import date

import pygal
from pygal.style import Style

# pygal looks for plug-ins by an import hook of a kind that Python has given up, and warns of at
# every later import. We have none: take it out again.
sys.meta_path[:] = [hook for hook in sys.meta_path if hasattr(hook, "find_spec")]

STYLE = Style(
    background="transparent",
    plot_background="transparent",
    foreground="#7a818c",
    foreground_strong="#7a818c",
    foreground_subtle="#7a818c55",
    colors=("#2f8f83", "#d0603b", "#8a6fc2", "#b58b1c", "#4c7fc0", "#a8527e"),
    font_family="system-ui, sans-serif",
    label_font_size=20,
    major_label_font_size=20,
    legend_font_size=20,
)


def bars(days: Sequence[date], series: Mapping[str, Sequence[int]]) -> str:
    """Stacked bars, one for each day.

    Returns:
        A `data:` URI for an `<img>`, which needs `img-src data:` and nothing else of the CSP.
    """
    chart = pygal.StackedBar(
        style=STYLE,
        js=[],
        width=860,
        height=340,
        margin=8,
        spacing=8,
        legend_at_bottom=True,
        show_legend=len(series) > 1,
        x_label_rotation=0,
        truncate_legend=-1,
        show_minor_x_labels=False,
        x_labels_major_every=max(len(days) // 4, 1),
        truncate_label=-1,
        no_data_text="nothing yet",
        disable_xml_declaration=True,
    )
    chart.x_labels = [f"{day:%b} {day.day}" for day in days]
    highest = max((sum(column) for column in zip(*series.values(), strict=True)), default=0)
    step = max(-(-highest // 4), 1)
    # pygal draws no chart without any series.
    chart.y_labels = range(0, highest + step, step)
    for name, values in series.items() or [("nothing", [0] * len(days))]:
        chart.add(name, list(values))
    svg: str = chart.render(is_unicode=True)
    return "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode()
