"""Loggers that load structlog with their first message: most commands end without one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

_set_up: list[Callable[[], None]] = []


def set_up_with(function: Callable[[], None]) -> None:
    """Have a function set structlog up before the first message, if nobody else has until then."""
    _set_up[:] = [function]


class Logger:
    """structlog's logger of a name: `log.warning("what_happened", which=...)`."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, method: str) -> Any:
        import structlog

        if _set_up and not structlog.is_configured():
            _set_up.pop()()
        return getattr(structlog.get_logger(self._name), method)
