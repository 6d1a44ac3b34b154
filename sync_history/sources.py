"""Sources: async functions with a name, and the `Run` through which they report."""

from __future__ import annotations

import importlib
import inspect
import operator
import re
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, SupportsIndex

import asyncpg

from audit.context import storable
from audit.errors import GroundworkError
from home.config.redaction import MAX_TRACEBACK_CHARACTERS, Redactor
from home.services import Services

NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,99}")
KEPT = {"failures": 500, "notes": 1_000}  # the first of them; all are counted
LONGEST_TEXT = 500  # characters
LONGEST_TRACEBACK = 16_000  # characters; of longer ones the middle is left out
LARGEST = 2**31 - 1  # that the columns hold


class SyncFailed(GroundworkError):
    """Raised by a source: the run fails. People see the message: what happened, what to do."""


class CannotLoad(GroundworkError):
    """A module of SYNC_SOURCES cannot be imported."""


@dataclass(frozen=True)
class Progress:
    """The progress of a run, as the history keeps it.

    Args:
        details: what `error_details` keeps: the first failures and notes, how many more, and the
            traceback of an error that the source did not expect.
    """

    total: int | None = None
    synced: int = 0
    failed: int = 0
    details: dict[str, Any] | None = None


class Run:
    """A run, as its source gets it. It counts in memory; the runner writes once a second.

    Args:
        services: the database and the settings, for the source to use.
        id: of the row in sync_history.
        source: the source's name.
        dry_run: the source changes nothing, and says by `note` what it would do.
        force: a person overrode the source's own safety limits.
        only: the items that failed in an earlier run, as it named them by `failed`; the source
            leaves all others alone. None: all there are.
    """

    def __init__(
        self,
        services: Services,
        id: int,
        source: str,
        *,
        dry_run: bool = False,
        force: bool = False,
        only: frozenset[str] | None = None,
    ) -> None:
        self.services = services
        self.id = id
        self.source = source
        self.dry_run = dry_run
        self.force = force
        self.only = only
        self.tried_to_exit = False
        self._total: int | None = None
        self._synced = 0
        self._failed = 0
        self._failures: list[dict[str, Any]] = []
        self._notes: list[str] = []
        self._notes_left_out = 0
        self._traceback: str | None = None
        self._good_until = float("inf")  # by time.monotonic(); moved on with each heartbeat
        self._redactor = Redactor(services.settings.secrets)

    def total(self, n: SupportsIndex) -> None:
        """Set how many items there will be."""
        self._total = _count(n)

    def synced(self, n: SupportsIndex = 1) -> None:
        """Count so many more items as done."""
        self._synced = min(self._synced + _count(n), LARGEST)

    def failed(self, item: str, error: str | Exception) -> None:
        """Count an item as failed, and say why; the run goes on, and ends as partial."""
        self._failed = min(self._failed + 1, LARGEST)
        if len(self._failures) < KEPT["failures"]:
            text = error if isinstance(error, str) else in_words(error)
            failure: dict[str, Any] = {"item": self.shown(item), "error": self.shown(text)}
            if failure["item"] != item:  # without a secret, or shorter: it names nothing any more
                failure["is_inexact"] = True
            self._failures.append(failure)

    def note(self, text: str) -> None:
        """Add a line for whoever reads the run."""
        if len(self._notes) < KEPT["notes"]:
            self._notes.append(self.shown(text))
        else:
            self._notes_left_out += 1

    @property
    def cancelled(self) -> bool:
        """Return whether to stop: a person asked for it, or this process has lost the run."""
        return time.monotonic() > self._good_until

    def extend(self, until: float) -> None:
        """Let this process own the run until a moment of `time.monotonic()`. For the runner."""
        self._good_until = until

    def stop(self) -> None:
        """Count as cancelled from now on. For the runner."""
        self._good_until = float("-inf")

    def failed_with(self, traceback: str) -> None:
        """Keep where the source failed, without secrets. For the runner."""
        whole: str = storable(self._redactor.clean(traceback, MAX_TRACEBACK_CHARACTERS))
        if len(whole) > LONGEST_TRACEBACK:
            half = LONGEST_TRACEBACK // 2
            whole = f"{whole[:half]}\n…\n{whole[-half:]}"
        self._traceback = whole

    def shown(self, value: object) -> str:
        """Return a text without secrets, short, and such as PostgreSQL can hold."""
        text: str = storable(self._redactor.clean(text_of(value)))
        return text if len(text) <= LONGEST_TEXT else text[: LONGEST_TEXT - 1] + "…"

    @property
    def progress(self) -> Progress:
        """Return how far it has come."""
        found = {
            "failures": [*self._failures],
            "failures_left_out": self._failed - len(self._failures),
            "notes": [*self._notes],
            "notes_left_out": self._notes_left_out,
            "traceback": self._traceback,
        }
        details = {name: value for name, value in found.items() if value}
        return Progress(self._total, self._synced, self._failed, details or None)


Function = Callable[[Run], Awaitable[None]]


@dataclass(frozen=True)
class Source:
    """A function that syncs, how often it is due (None is only by hand), and whether it can redo
    single items."""

    name: str
    function: Function
    every: timedelta | None = None
    redoes_items: bool = False


_registry: dict[str, Source] = {}


def source(
    name: str, *, every: timedelta | None = None, redoes_items: bool = False
) -> Callable[[Function], Function]:
    """Register an async function as a source.

    Args:
        name: small letters, digits, `_`, `-` and `.`; at most 100.
        every: how often it runs by itself, at least a second. The times are counted from midnight
            UTC, 1 January 1970: every hour is on the hour, every day at midnight UTC.
        redoes_items: it respects `Run.only`, so that people can run only what failed once more.

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
        _registry[name] = Source(name, function, every, redoes_items)
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


def in_words(error: BaseException) -> str:
    """Return an error as people may read it: details of a database's error would show values."""
    if isinstance(error, BaseExceptionGroup):
        first, number = in_words(error.exceptions[0]), len(error.exceptions)
        return first if number == 1 else f"{number} errors. The first: {first}"
    is_refusal = isinstance(error, asyncpg.PostgresError) and error.args
    text = text_of(error.args[0] if is_refusal else error)
    if isinstance(error, SyncFailed):
        return text or text_of(SyncFailed())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def text_of(value: object) -> str:
    """Return a value as text, whatever its `__str__` does: SystemExit would end the process."""
    try:
        return str(value)
    except BaseException:
        return f"({type(value).__name__} that cannot be shown)"


def _count(n: SupportsIndex) -> int:
    number = operator.index(n)  # no fractions, no texts
    if number < 0:
        raise ValueError("a number of items cannot be negative")
    return min(number, LARGEST)
