"""Who hashes next: a bounded queue in which nobody waits long, and sign-ins go first."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from enum import IntEnum

from audit.errors import GroundworkError


class Busy(GroundworkError):
    """Too many people are signing in at this moment. Try again in a few seconds."""

    status, code = 503, "busy"

    @property
    def retry_after(self) -> int:
        return 5


class Purpose(IntEnum):
    """The purpose of a hash; the lower number goes first."""

    SIGN_IN = 0
    REGISTRATION = 1


class HashingQueue:
    """A few places, and a queue for each purpose.

    Args:
        size: how many hash at the same time.
        longest: how many may wait for each purpose; more are refused at once.
        seconds: how long somebody waits at most.
    """

    def __init__(self, size: int, longest: int, seconds: float) -> None:
        self.size = self.free = size
        self.longest = longest
        self.seconds = seconds
        self._queues: dict[Purpose, deque[asyncio.Future[None]]] = {
            purpose: deque() for purpose in sorted(Purpose)
        }

    @property
    def waiting(self) -> int:
        """Return how many wait now."""
        return sum(len(queue) for queue in self._queues.values())

    @asynccontextmanager
    async def slot(self, purpose: Purpose) -> AsyncIterator[None]:
        """Have a place for this block.

        Raises:
            Busy: too many wait already, or none became free in time.
        """
        await self._take(self._queues[purpose])
        try:
            yield
        finally:
            self._give()

    async def _take(self, queue: deque[asyncio.Future[None]]) -> None:
        if self.free:
            self.free -= 1
            return
        if len(queue) >= self.longest:
            raise Busy
        turn = asyncio.get_running_loop().create_future()
        queue.append(turn)
        try:
            async with asyncio.timeout(self.seconds):
                await turn
        except BaseException as error:
            if turn.done() and not turn.cancelled():  # its turn had just come: the next one's
                self._give()
            if isinstance(error, TimeoutError):
                raise Busy from None
            raise
        finally:
            with suppress(ValueError):
                queue.remove(turn)

    def _give(self) -> None:
        for queue in self._queues.values():
            while queue:
                turn = queue.popleft()
                if not turn.done():
                    turn.set_result(None)
                    return
        self.free += 1
