"""Loggers that load structlog with their first message: most commands end without one."""

from __future__ import annotations

from typing import Any


class Logger:
    """structlog's logger of a name: `log.warning("what_happened", which=...)`."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, method: str) -> Any:
        import structlog

        return getattr(structlog.get_logger(self._name), method)
