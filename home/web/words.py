"""Times and numbers in words, for pages: the filters `ago`, `utc` and `number`."""

from __future__ import annotations

from datetime import UTC, datetime

UNITS = (("day", 86_400), ("hour", 3_600), ("minute", 60))


def ago(moment: datetime | None) -> str:
    """Return how long ago something was, such as "2 hours ago"; None is "never"."""
    if moment is None:
        return "never"
    seconds = int((datetime.now(UTC) - moment).total_seconds())
    if seconds < -60:
        return "in the future"
    for unit, size in UNITS:
        if seconds >= size:
            return f"{plural(seconds // size, unit)} ago"
    return "just now"


def utc(moment: datetime | None) -> str:
    """Return a moment as "2026-11-21 14:02:07 UTC"."""
    return "" if moment is None else f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def number(value: int) -> str:
    """Return a number with its thousands apart, such as "1,204"."""
    return f"{value:,}"


def plural(count: int, noun: str) -> str:
    """Return "1 session", "2 sessions" and the like."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
