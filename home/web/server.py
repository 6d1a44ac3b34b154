"""How uvicorn is told to bound what comes in over HTTP."""

from __future__ import annotations

from typing import Any

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
# Of h11, which parses where httptools cannot be installed (PyPy). It knows no limit of time: let a
# proxy stand in front.
H11_MAX_HEAD_BYTES = 16 * 1024


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
