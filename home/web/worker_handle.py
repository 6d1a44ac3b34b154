"""A worker as the process manager sees it: whether it serves, answers, or is to be killed."""

from __future__ import annotations

from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from time import monotonic
from typing import Any

from home.config.exiting import EXIT_SECONDS, LAST_SECONDS
from home.web.worker import LAST_REQUEST_SECONDS, PING

START_SECONDS = 60.0  # an embedded database may have to be made first
PING_SECONDS, HUNG_SECONDS = 1.0, 30.0
END_SECONDS = EXIT_SECONDS + LAST_SECONDS + 0.2  # workers end by themselves before
RETIRE_SECONDS = LAST_REQUEST_SECONDS + END_SECONDS


@dataclass(eq=False)
class Worker:
    """A process that serves, as the process manager sees it; times are of the monotonic clock."""

    process: SpawnProcess
    channel: Connection[Any, Any]
    index: int
    started_at: float = field(default_factory=monotonic)
    answered_at: float = field(default_factory=monotonic)
    asked_at: float = 0.0
    ready_at: float | None = None
    retires_at: float | None = None
    given_up: str = ""  # why it was killed from here
    is_gone: bool = False  # its end of the channel is closed

    @property
    def fields(self) -> dict[str, Any]:
        """Return what logs say of it."""
        return {"worker": self.index + 1, "pid": self.process.pid}

    def hear(self, now: float) -> None:
        """Take in what it said, and ask again. Never waits."""
        try:
            while self.channel.poll():
                if self.channel.recv() and self.ready_at is None:
                    self.ready_at = now
                self.answered_at = now
            if now - self.asked_at >= PING_SECONDS:
                self.asked_at = now
                self.channel.send(PING)
        except (EOFError, OSError):
            self.is_gone = True  # and its sentinel says so at once

    def overdue(self, now: float) -> str:
        """Return why it has to be killed, or nothing."""
        if self.retires_at is not None:
            return "it did not end" if now - self.retires_at > RETIRE_SECONDS else ""
        if self.ready_at is None:
            return "it did not start" if now - self.started_at > START_SECONDS else ""
        return "it did not answer" if now - self.answered_at > HUNG_SECONDS else ""
