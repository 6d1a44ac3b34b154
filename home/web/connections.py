"""The open connections of a process: at most so many, and none waits for its client for ever.

uvicorn counts connections and does nothing about those that only wait. Here all of them are looked
at once a second, so that a request costs no timer of its own.
"""

from __future__ import annotations

import asyncio
import heapq
from collections import Counter
from time import monotonic
from typing import Protocol

from audit.log import Logger

# Places above the limit, for health checks: everybody else is told to come back.
RESERVE = 8
# Answers that their clients have not taken yet, all together. Above it the slowest are cut off.
MAX_BUFFERED_BYTES = 64 * 1024 * 1024
LARGE_BYTES = 1024 * 1024
SWEEP_SECONDS = 1.0
LOG_SECONDS = 60.0

log = Logger("groundwork.web")


class Connection(Protocol):
    """Requirements of a connection.

    Attributes:
        since: when it was seen to begin what it is at, in seconds of the monotonic clock.
    """

    transport: asyncio.Transport
    since: float

    def waits_for_client(self) -> bool:
        """Return whether nothing happens before the client sends something."""

    def look(self, now: float) -> None:
        """End it if what it is at has taken too long."""

    def end_after_answer(self) -> None:
        """End it with the answer that is being made, if one is."""


class Connections:
    """The connections of one server.

    Args:
        limit: at most so many, and RESERVE more for health checks.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.is_ending = False  # whoever asks once more is told that it was the last time
        self.open: set[Connection] = set()
        self._counts: Counter[str] = Counter()
        self._logged_at = -LOG_SECONDS
        self._timer: asyncio.TimerHandle | None = None

    def add(self, connection: Connection, loop: asyncio.AbstractEventLoop) -> None:
        """Take a new one in, if need be in the place of those that have waited longest."""
        if len(self.open) >= self.limit:
            self._make_room()
        self.open.add(connection)
        if self._timer is None:
            self._timer = loop.call_later(SWEEP_SECONDS, self._sweep, loop)

    def is_crowded(self) -> bool:
        """Return whether the latest is one too many: for health checks only."""
        return len(self.open) > self.limit

    def is_full(self) -> bool:
        """Return whether there is no place at all for the latest."""
        return len(self.open) > self.limit + RESERVE

    def end_after_answers(self) -> None:
        """End each connection with its next answer, which says so."""
        self.is_ending = True
        for each in self.open:
            each.end_after_answer()

    def count(self, event: str) -> None:
        """Count what is logged once a minute, however often it happens."""
        self._counts[event] += 1

    def bound_buffers(self) -> None:
        """Cut off the slowest readers while more is buffered than may be."""
        sizes = {each: each.transport.get_write_buffer_size() for each in self.open}
        total = sum(sizes.values())
        if total <= MAX_BUFFERED_BYTES:
            return
        readers = sorted((each for each in sizes if sizes[each]), key=lambda each: each.since)
        for each in readers[:-1]:  # one answer may be larger than that
            if total <= MAX_BUFFERED_BYTES:
                break
            total -= sizes[each]
            self._cut_off(each, "slow_readers")

    def _make_room(self) -> None:
        """Close several at once, since looking for them takes time."""
        slow = [
            each
            for each in self.open
            if each.waits_for_client() or each.transport.get_write_buffer_size()
        ]
        some = 1 + self.limit // 16
        by_patience = heapq.nsmallest(
            some, slow, key=lambda each: (not each.waits_for_client(), each.since)
        )
        for each in by_patience:
            self._cut_off(each, "closed_to_make_room")

    def _cut_off(self, connection: Connection, reason: str) -> None:
        self.count(reason)
        self.open.discard(connection)
        connection.transport.abort()

    def _sweep(self, loop: asyncio.AbstractEventLoop) -> None:
        now = monotonic()
        for each in tuple(self.open):
            each.look(now)
        self.bound_buffers()
        if self._counts and now - self._logged_at >= LOG_SECONDS:
            log.warning("connections_ended", open=len(self.open), limit=self.limit, **self._counts)
            self._counts.clear()
            self._logged_at = now
        self._timer = loop.call_later(SWEEP_SECONDS, self._sweep, loop) if self.open else None
