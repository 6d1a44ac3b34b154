"""uvicorn, with bounds for what comes in over HTTP, and for how long it takes to end."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import uvicorn
from starlette.applications import Starlette
from uvicorn.config import STARTUP_FAILURE

from home.config.exiting import EXIT_SECONDS, exit_within
from home.web.connections import RESERVE, Connections

try:
    import resource
except ImportError:  # Windows has no such limit
    resource = None  # type: ignore[assignment]

# As many as gunicorn's worker_connections allows by default. What only waits is closed to make
# room, so this bounds requests at work, and memory: 5,000 idle connections would take 30 MB.
MAX_CONNECTIONS = 1000
MIN_CONNECTIONS = 8
# What the process needs besides: 20 connections each to database and replica, three to watch them,
# and some twenty for the event loop, files and libraries.
OTHER_DESCRIPTORS = 72
DRAIN_SECONDS = 5  # for requests in flight
# When all is written, what is left is a source, or a thread, that does not stop.
TIDY_UP_SECONDS = 1.0
# Of h11, which parses where httptools cannot be installed (PyPy). It knows no limit of time: let a
# proxy stand in front.
H11_MAX_HEAD_BYTES = 16 * 1024


class Server(uvicorn.Server):
    """Ends in time, also where something in it does not stop."""

    def __init__(self, config: uvicorn.Config, stop_database: Callable[[], None] | None) -> None:
        super().__init__(config)
        self.stop_database = stop_database

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to end, on a signal."""
        exit_within(EXIT_SECONDS, last=self.stop_database)
        super().handle_exit(sig, frame)


def end_on_signals(stop_database: Callable[[], None] | None) -> None:
    """Let SIGINT, SIGTERM and SIGHUP end the process with success.

    While uvicorn serves it handles the first two itself, and hands them on when it has shut down.

    Args:
        stop_database: the embedded one.
    """

    def end(number: int, frame: FrameType | None) -> None:
        exit_within(TIDY_UP_SECONDS, last=stop_database)
        sys.exit(0)

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # nohup
        signal.signal(signal.SIGHUP, lambda *_: signal.raise_signal(signal.SIGTERM))


def serve_until_told(
    app: Starlette, host: str, port: int, stop_database: Callable[[], None] | None
) -> None:
    """Serve until a signal ends the process; requests in flight finish first."""
    server = Server(uvicorn_config(app, host, port), stop_database)
    server.run()
    if not server.started:
        sys.exit(STARTUP_FAILURE)


def uvicorn_config(app: Starlette, host: str, port: int) -> uvicorn.Config:
    """Return how uvicorn serves in a process."""
    return uvicorn.Config(
        app,
        host=host,
        port=port,
        workers=1,  # else it would look for WEB_CONCURRENCY itself
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,  # RequestContext decides whose word counts
        timeout_graceful_shutdown=DRAIN_SECONDS,
        **uvicorn_options(),
    )


def uvicorn_options() -> dict[str, Any]:
    """Return arguments of `uvicorn.run`."""
    try:
        from home.web.http_protocol import BoundedProtocol
    except ImportError:
        return {"http": "h11", "ws": "none", "h11_max_incomplete_event_size": H11_MAX_HEAD_BYTES}

    class Served(BoundedProtocol):
        peers = Connections(connection_limit())

    return {"http": Served, "ws": "none"}


def connection_limit() -> int:
    """Return how many connections there may be, below the limit of descriptors."""
    if resource is None:
        return MAX_CONNECTIONS
    descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if descriptors == resource.RLIM_INFINITY:
        return MAX_CONNECTIONS
    free = descriptors - OTHER_DESCRIPTORS - RESERVE
    return max(MIN_CONNECTIONS, min(free, MAX_CONNECTIONS))
