"""Text of others, before it is shown."""

from __future__ import annotations

import json
from typing import Any


def printable(value: Any) -> str:
    """Return a value in one line, as JSON unless it is text. Nothing that a terminal would obey."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode() for each in text
    )
