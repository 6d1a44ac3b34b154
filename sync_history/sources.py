"""Sources: async functions with a name, when they run, and how often they are tried."""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from audit.errors import GroundworkError
from sync_history.errors import SyncFailed
from sync_history.reporting import Run
from sync_history.schedule import Schedule

__all__ = ["CannotLoad", "Function", "Run", "Source", "SyncFailed", "load", "source", "sources"]

NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,99}")
BEGIN = datetime(1970, 1, 1, tzinfo=UTC)  # from where `every` is counted
MOST_RETRIES = 10


class CannotLoad(GroundworkError):
    """A module of SYNC_SOURCES cannot be imported."""


Function = Callable[[Run], Awaitable[None]]


@dataclass(frozen=True)
class Source:
    """A function that syncs, when it is due, and how often it is tried.

    Args:
        every: how often it is due, or
        schedule: when; without either it runs by hand only.
        redoes_items: it can redo single items.
        retries: how often a run that failed is tried again by itself.
    """

    name: str
    function: Function
    every: timedelta | None = None
    redoes_items: bool = False
    schedule: Schedule | None = None
    retries: int = 0

    @property
    def is_automatic(self) -> bool:
        """Return whether it runs by itself."""
        return self.every is not None or self.schedule is not None

    @property
    def needs_scheduler(self) -> bool:
        """Return whether there are runs of it that nobody starts by hand."""
        return self.is_automatic or self.retries > 0

    def last_due(self, now: datetime) -> datetime:
        """Return the newest due time that is not after a moment, in UTC; of one that has some."""
        if self.schedule is not None:
            return self.schedule.last_due(now)
        assert self.every is not None
        return BEGIN + (now - BEGIN) // self.every * self.every

    def next_due(self, now: datetime) -> datetime:
        """Return the first due time after a moment, in UTC; of one that has some."""
        if self.schedule is not None:
            return self.schedule.next_due(now)
        assert self.every is not None
        return self.last_due(now) + self.every


_registry: dict[str, Source] = {}


def source(
    name: str,
    *,
    every: timedelta | None = None,
    schedule: str | None = None,
    zone: str | None = None,
    retries: int = 0,
    redoes_items: bool = False,
) -> Callable[[Function], Function]:
    """Register an async function as a source.

    Args:
        name: small letters, digits, `_`, `-` and `.`; at most 100.
        every: how often it runs by itself, at least a second. The times are counted from midnight
            UTC, 1 January 1970: every hour is on the hour, every day at midnight UTC.
        schedule: in place of `every`, when it runs by itself, as cron writes it: minute, hour, day
            of the month, month, day of the week, such as "0 3 * * mon-fri".
        zone: of the schedule, such as "Europe/Berlin"; UTC unless named.
        retries: how often a run that failed is tried again by itself, at most 10 times.
        redoes_items: it respects `Run.only`, so that people can run only what failed once more.

    Raises:
        ValueError: the name is taken or unusable, or what it says of times makes no sense.
        TypeError: the function is not async.
    """
    if not NAME.fullmatch(name):
        raise ValueError(f"a source's name has small letters, digits, _ - and . only: {name!r}")
    if every is not None and every < timedelta(seconds=1):
        raise ValueError(f"source {name}: every=... is at least a second")
    if every is not None and schedule is not None:
        raise ValueError(f"source {name}: it has every=... or schedule=..., not both")
    if zone is not None and schedule is None:
        raise ValueError(f"source {name}: zone=... belongs to schedule=...")
    if not 0 <= retries <= MOST_RETRIES:
        raise ValueError(f"source {name}: retries=... is from 0 to {MOST_RETRIES}")
    try:
        times = None if schedule is None else Schedule(schedule, "UTC" if zone is None else zone)
    except ValueError as error:
        raise ValueError(f"source {name}: {error}") from None

    def register(function: Function) -> Function:
        if not inspect.iscoroutinefunction(function):
            raise TypeError(f"source {name} needs an async function")
        known = _registry.get(name)
        if known is not None and known.function.__module__ != function.__module__:
            raise ValueError(f"there is already a source {name}, in {known.function.__module__}")
        _registry[name] = Source(name, function, every, redoes_items, times, retries)
        return function

    return register


def sources() -> dict[str, Source]:
    """Return all registered sources by name, in alphabetical order."""
    return dict(sorted(_registry.items()))


def load(modules: Sequence[str]) -> None:
    """Import the modules of SYNC_SOURCES, which registers their sources.

    Raises:
        CannotLoad: with the module and what is wrong.
    """
    for module in modules:
        try:
            importlib.import_module(module)
        except Exception as error:
            text = f"{type(error).__name__}: {error}"
            raise CannotLoad(f"SYNC_SOURCES: {module} cannot be imported ({text})") from error
