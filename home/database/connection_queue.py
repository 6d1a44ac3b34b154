"""Places for a few at a time, and a queue in which nobody waits for ever."""

from __future__ import annotations

import asyncio
from collections import deque


class ConnectionQueue:
    """First come, first served. One timer serves all who wait, since all wait equally long: one for
    each of them would cost as much as making the answer's JSON.

    Args:
        size: how many may have one at a time.
        seconds: how long somebody waits.
    """

    def __init__(self, size: int, seconds: float) -> None:
        self.size = self.free = size
        self.seconds = seconds
        self._queue: deque[tuple[float, asyncio.Future[None]]] = deque()
        self._timer: asyncio.TimerHandle | None = None

    @property
    def waiting(self) -> int:
        """Return how many wait now."""
        return sum(not turn.done() for _, turn in self._queue)

    async def take(self) -> None:
        """Take a slot, until it is given back.

        Raises:
            TimeoutError: none became free in time.
        """
        if self.free:
            self.free -= 1
            return
        loop = asyncio.get_running_loop()
        turn = loop.create_future()
        self._queue.append((loop.time() + self.seconds, turn))
        if self._timer is None:
            self._timer = loop.call_later(self.seconds, self._expire)
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():  # its turn had just come: the next one's
                self.give()
            raise

    def give(self) -> None:
        """Give a slot back: to who has waited longest, if anybody."""
        while self._queue:
            _, turn = self._queue.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self.free = min(self.free + 1, self.size)  # those of a pool that was closed come late

    def _expire(self) -> None:
        loop = asyncio.get_running_loop()
        while self._queue and (self._queue[0][0] <= loop.time() or self._queue[0][1].done()):
            _, turn = self._queue.popleft()
            if not turn.done():
                turn.set_exception(TimeoutError())
        self._timer = loop.call_at(self._queue[0][0], self._expire) if self._queue else None
