"""Numbers of rows, as they come from outside."""

from __future__ import annotations

HIGHEST = 2**63 - 1
MOST_DIGITS = 19  # of HIGHEST; Python refuses to read a number of some thousand


def id_of(text: str, highest: int = HIGHEST) -> int | None:
    """Return the number that a text is, or None where no row can have it."""
    if not (text.isascii() and text.isdigit() and len(text) <= MOST_DIGITS):
        return None
    number = int(text)
    return number if number <= highest else None


def cursor_of(text: str) -> int | None:
    """Return the id after which a page begins, which may be negative, or None where it is none."""
    number = id_of(text.removeprefix("-"))
    return -number if number is not None and text.startswith("-") else number
