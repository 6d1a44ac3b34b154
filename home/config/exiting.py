"""A process that is asked to end does so in time, whatever still runs in it."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable

import structlog

# What is orderly takes 9 seconds at most: 5 for requests, 2 for runs, 2 for connections.
EXIT_SECONDS = 9.2
LAST_SECONDS = 0.5  # for what cannot be left undone

log = structlog.get_logger("groundwork")


def exit_within(seconds: float, code: int = 0, *, last: Callable[[], object] | None = None) -> None:
    """End the process after some seconds, unless it has ended by then.

    A task that swallows its cancellation, a thread that is waited for, or a call that blocks the
    event loop would otherwise keep it alive for as long as they like.

    Args:
        last: done before the process is ended like this, if it takes no longer than LAST_SECONDS.
    """
    timer = threading.Timer(seconds, _exit, (code, last))
    timer.daemon = True
    timer.start()


def _exit(code: int, last: Callable[[], object] | None) -> None:
    log.warning("exit_forced", reason="something does not stop")
    if last is not None:
        thread = threading.Thread(target=last, daemon=True)
        thread.start()
        thread.join(LAST_SECONDS)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
