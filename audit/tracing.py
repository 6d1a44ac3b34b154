"""Work whose time is worth knowing. Where nobody listens, it costs a look at one variable."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

# Notes what is known later, such as how it ended.
Note = Callable[..., None]
Spans = Callable[[str, dict[str, str | int]], AbstractContextManager[Note]]


def _ignore(**attributes: str | int) -> None: ...


_NOTHING = nullcontext(_ignore)
_spans: Spans | None = None


def listen(spans: Spans | None) -> None:
    """Have somebody told of each span from now on, or nobody: None."""
    global _spans
    _spans = spans


def span(name: str, **attributes: str | int) -> AbstractContextManager[Note]:
    """Measure a block as a part of what runs around it; see docs/operating.md, Tracing.

    Args:
        attributes: what it is about. Neither values nor people: they leave the machine.
    """
    return _NOTHING if _spans is None else _spans(name, attributes)
