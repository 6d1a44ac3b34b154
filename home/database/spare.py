"""A program without a pool, such as a command: one connection for one statement after another."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from home.database.connection import ObservedConnection


class SpareConnection:
    """Keeps the connection that was given back last, until it is needed or the event loop ends.

    Opening one takes longer than most statements. It is closed with the loop because `asyncio.run`
    closes every asynchronous generator that is still open.
    """

    def __init__(self) -> None:
        self._connection: ObservedConnection | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._end_of_loop: AsyncGenerator[None, None] | None = None

    def take(self) -> ObservedConnection | None:
        """Return the kept connection, which is the caller's now, or None."""
        if self._loop is not asyncio.get_running_loop():
            return None
        connection, self._connection = self._connection, None
        return None if connection is None or connection.is_closed() else connection

    async def give(self, connection: ObservedConnection) -> None:
        """Keep a connection, or close it where one is kept or its next user would see its state."""
        if connection.is_closed():
            return
        if connection.left_state or connection.is_in_transaction() or not await self._is_free():
            await connection.close(timeout=1)
            return
        self._connection = connection

    def hang_up(self) -> None:
        """End what is kept, without a word to the server."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.terminate()

    async def close(self) -> None:
        """Close what is kept."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close(timeout=1)

    async def _is_free(self) -> bool:
        """Return whether nothing is kept, here or by another event loop that still runs."""
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            if self._loop is not None and not self._loop.is_closed():
                return False
            self._loop, self._connection = loop, None
            self._end_of_loop = self._wait_for_end_of_loop()
            await anext(self._end_of_loop)
        return self._connection is None

    async def _wait_for_end_of_loop(self) -> AsyncGenerator[None, None]:
        try:
            yield
        finally:
            await self.close()
