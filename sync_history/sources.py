"""Stand-in for the runner's module, until it lands: the fixed interface, and nothing behind it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Protocol

Source = Callable[["Run"], Awaitable[None]]


class Run(Protocol):
    """What a source gets."""

    id: int
    source: str
    dry_run: bool
    force: bool

    def total(self, n: int) -> None: ...
    def synced(self, n: int = 1) -> None: ...
    def failed(self, item: str, error: str | Exception) -> None: ...
    def note(self, text: str) -> None: ...
    @property
    def cancelled(self) -> bool: ...


class SyncFailed(Exception):
    """The whole run fails; the message is shown to people."""


def source(name: str, every: timedelta | None = None) -> Callable[[Source], Source]:
    """Register a source."""
    return lambda function: function
