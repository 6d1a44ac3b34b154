"""How often an address failed lately, in this process, where nothing can be gained by guessing."""

from __future__ import annotations

import time

from audit.context import current_actor
from audit.errors import GroundworkError
from home.accounts.throttle import network_of

MOST, WINDOW_SECONDS = 20, 300.0
MOST_NETWORKS = 10_000


class TooManyFailures(GroundworkError):
    """Too many attempts that failed came from this address. Try again later."""

    status, code = 429, "too_many_attempts"

    @property
    def retry_after(self) -> int:
        return int(WINDOW_SECONDS)


class RecentFailures:
    """Failures of each network since its window opened; the oldest networks are forgotten first."""

    def __init__(self) -> None:
        self._found: dict[str, tuple[int, float]] = {}

    def count(self) -> str:
        """Count one more of the current request's address; return its network.

        Raises:
            TooManyFailures: there were too many; nothing is worth recording any more.
        """
        actor = current_actor()
        network = network_of(actor.ip_address if actor else None) or "unknown"
        now = time.monotonic()
        number, since = self._found.pop(network, (0, now))
        if now - since > WINDOW_SECONDS:
            number, since = 0, now
        self._found[network] = (number + 1, since)
        if len(self._found) > MOST_NETWORKS:
            del self._found[next(iter(self._found))]
        if number >= MOST:
            raise TooManyFailures
        return network

    def clear(self) -> None:
        """Forget all."""
        self._found.clear()
