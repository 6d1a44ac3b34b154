"""What a source is given: the `Run` through which it reports."""

from __future__ import annotations

import json
import operator
import time
from dataclasses import dataclass
from typing import Any, SupportsIndex

import asyncpg

from audit.context import storable
from home.config.redaction import MAX_TRACEBACK_CHARACTERS, Redactor
from home.services import Services
from sync_history.cursors import Cursor, as_text
from sync_history.errors import SyncFailed
from sync_history.run_log import RunLog

KEPT = {"failures": 500, "notes": 1_000}  # the first of them; all are counted
LONGEST_TEXT = 500  # characters
LONGEST_TRACEBACK = 16_000  # characters; of longer ones the middle is left out
LARGEST = 2**31 - 1  # that the columns hold


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
        cursor: what the source has kept from run to run.
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
        cursor: Cursor | None = None,
    ) -> None:
        self.services = services
        self.id = id
        self.source = source
        self.dry_run = dry_run
        self.force = force
        self.only = only
        self.tried_to_exit = False
        self._cursor = cursor
        self._total: int | None = None
        self._synced = 0
        self._failed = 0
        self._failures: list[dict[str, Any]] = []
        self._notes: list[str] = []
        self._notes_left_out = 0
        self._traceback: str | None = None
        self._good_until = float("inf")  # by time.monotonic(); moved on with each heartbeat
        self._redactor = Redactor(services.settings.secrets)
        self.log = RunLog(self._redactor)  # for the runner

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
    def state(self) -> dict[str, Any]:
        """Return what the source's last run kept by `save_state`; {} where none did."""
        found: dict[str, Any] = json.loads((self._cursor and self._cursor.found) or "{}")
        return found

    async def save_state(self, state: dict[str, Any]) -> None:
        """Keep a state for the next run, as far as the transaction that is open is committed.

        A dry run, and one of single items, keep nothing.

        Raises:
            SyncFailed: the run was closed, or somebody else has written the state meanwhile.
            TypeError, ValueError: it is no dict of JSON, or longer than 64 kB.
        """
        text = as_text(state)
        if self._cursor is not None and not self.dry_run and self.only is None:
            await self._cursor.save(text)

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
