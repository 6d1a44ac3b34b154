"""Sources: async functions with a name, and the `Run` in which they tell how they get on."""

from __future__ import annotations

import importlib
import inspect
import re
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import asyncpg

from audit.context import storable
from audit.errors import GroundworkError

NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,99}")
KEPT = {"failures": 500, "notes": 1_000}  # the first of them; all are counted
LONGEST_TEXT = 500  # characters
LARGEST = 2**31 - 1  # that the columns hold


class SyncFailed(GroundworkError):
    """Raised by a source: the run fails. People see the message: what happened, what to do."""


class CannotLoad(GroundworkError):
    """A module of SYNC_SOURCES cannot be imported."""


class Run:
    """What a source gets. All of it only counts in memory; the runner writes once a second.

    Args:
        id: of the row in sync_history.
        source: the source's name.
        dry_run: the source changes nothing, and says by `note` what it would do.
        force: a person overrode the source's own safety limits.
        mask: takes secrets out of a text.
    """

    def __init__(
        self,
        id: int,
        source: str,
        dry_run: bool = False,
        force: bool = False,
        mask: Callable[[str], str] = str,
    ) -> None:
        self.id = id
        self.source = source
        self.dry_run = dry_run
        self.force = force
        self.items_total: int | None = None
        self.items_synced = 0
        self.items_failed = 0
        self.failures: list[dict[str, str]] = []
        self.notes: list[str] = []
        self.notes_left_out = 0
        self.good_until = float("inf")  # by time.monotonic(); moved on with each heartbeat
        self._mask = mask

    def total(self, n: int) -> None:
        """How many items there will be."""
        self.items_total = _count(n)

    def synced(self, n: int = 1) -> None:
        """So many more items are done."""
        self.items_synced = min(self.items_synced + _count(n), LARGEST)

    def failed(self, item: str, error: str | Exception) -> None:
        """One item failed, and why; the run goes on, and ends as partial."""
        self.items_failed = min(self.items_failed + 1, LARGEST)
        if len(self.failures) < KEPT["failures"]:
            text = error if isinstance(error, str) else in_words(error)
            self.failures.append({"item": self.shown(item), "error": self.shown(text)})

    def note(self, text: str) -> None:
        """A line for whoever reads the run."""
        if len(self.notes) < KEPT["notes"]:
            self.notes.append(self.shown(text))
        else:
            self.notes_left_out += 1

    @property
    def cancelled(self) -> bool:
        """A person asked to stop, or this process is no longer the one that runs it."""
        return time.monotonic() > self.good_until

    def stop(self) -> None:
        """For the runner: from now on it is cancelled."""
        self.good_until = float("-inf")

    def shown(self, value: Any) -> str:
        """A text without secrets, short, and such as PostgreSQL can hold."""
        text: str = storable(self._mask(str(value)))
        return text if len(text) <= LONGEST_TEXT else text[: LONGEST_TEXT - 1] + "…"

    def details(self) -> dict[str, Any] | None:
        """What `error_details` keeps: the first failures and notes, and how many more there are."""
        more_failures = self.items_failed - len(self.failures)
        found = {
            "failures": self.failures,
            "failures_left_out": more_failures,
            "notes": self.notes,
            "notes_left_out": self.notes_left_out,
        }
        return {name: value for name, value in found.items() if value} or None


Function = Callable[[Run], Awaitable[None]]


@dataclass(frozen=True)
class Source:
    """A function that syncs, and how often it is due; None is only by hand."""

    name: str
    function: Function
    every: timedelta | None = None


_registry: dict[str, Source] = {}


def source(name: str, *, every: timedelta | None = None) -> Callable[[Function], Function]:
    """Register an async function as a source.

    Args:
        name: small letters, digits, `_`, `-` and `.`; at most 100.
        every: how often it runs by itself, at least a second. The times are counted from midnight
            UTC, 1 January 1970: every hour is on the hour, every day at midnight UTC.

    Raises:
        ValueError: the name is taken or unusable, or `every` is too short.
        TypeError: the function is not async.
    """
    if not NAME.fullmatch(name):
        raise ValueError(f"a source's name has small letters, digits, _ - and . only: {name!r}")
    if every is not None and every < timedelta(seconds=1):
        raise ValueError(f"source {name}: every=... is at least a second")

    def register(function: Function) -> Function:
        if not inspect.iscoroutinefunction(function):
            raise TypeError(f"source {name} needs an async function")
        known = _registry.get(name)
        if known is not None and known.function.__module__ != function.__module__:
            raise ValueError(f"there is already a source {name}, in {known.function.__module__}")
        _registry[name] = Source(name, function, every)
        return function

    return register


def sources() -> dict[str, Source]:
    """All registered sources by name, in alphabetical order."""
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


def in_words(error: BaseException) -> str:
    """An error as people may read it; the details of a database's error would show values."""
    text = str(error.args[0]) if isinstance(error, asyncpg.PostgresError) else str(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _count(n: int) -> int:
    if n < 0:
        raise ValueError("a number of items cannot be negative")
    return min(int(n), LARGEST)
