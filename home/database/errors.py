"""What goes wrong with the database, as one small tree.

ConnectionError
└── DatabaseUnavailable     no answer from the database: 503, try again
    └── PoolTimeout         all connections are in use: 503, try again
"""

from __future__ import annotations

import asyncio
import socket
import ssl

from asyncpg import exceptions as pg

# Errors of a connection, as against errors of a statement.
CONNECTION_ERRORS = (
    OSError,  # includes TimeoutError, ConnectionError, socket.gaierror and ssl.SSLError
    pg.PostgresConnectionError,
    pg.OperatorInterventionError,  # terminated by an administrator, starting up, shutting down
    pg.TooManyConnectionsError,
    pg.InvalidAuthorizationSpecificationError,
    pg.InvalidCatalogNameError,
    pg.InternalClientError,
)

# First match wins. The codes are what health answers show: they hold no internals.
REASONS: tuple[tuple[type[BaseException], str], ...] = (
    (TimeoutError, "timeout"),
    (asyncio.CancelledError, "timeout"),
    (socket.gaierror, "unknown_host"),
    (ssl.SSLError, "tls_failed"),
    (ConnectionRefusedError, "refused"),
    (FileNotFoundError, "refused"),  # a socket that does not exist
    (pg.InvalidAuthorizationSpecificationError, "authentication_failed"),
    (pg.InvalidCatalogNameError, "unknown_database"),
    (pg.TooManyConnectionsError, "too_many_connections"),
    (pg.CannotConnectNowError, "starting_up"),
    (pg.QueryCanceledError, "timeout"),
    (pg.InsufficientResourcesError, "out_of_space"),  # of disk or memory
)


class DatabaseUnavailable(ConnectionError):
    """The database did not answer; nothing is known to be stored. Try again."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"the database is unavailable: {reason}")
        self.reason = reason


class PoolTimeout(DatabaseUnavailable):
    """All connections stayed in use for longer than the connection timeout. Try again."""

    def __init__(self) -> None:
        super().__init__("all_connections_in_use")


def reason_of(error: BaseException) -> str:
    """A code that tells an administrator what to look at, without internals."""
    if isinstance(error, DatabaseUnavailable):
        return error.reason
    if isinstance(error, ConnectionError) and "SSL" in str(
        error
    ):  # asyncpg: «rejected SSL upgrade»
        return "tls_failed"
    return next((code for kind, code in REASONS if isinstance(error, kind)), "connection_lost")


def is_lost_connection(error: BaseException) -> bool:
    """Whether the connection failed rather than the statement."""
    if isinstance(error, pg.InterfaceError):
        # asyncpg: «connection is closed», «pool is closing», «has been released back to the pool»
        return any(word in str(error) for word in ("closed", "closing", "released"))
    return isinstance(error, CONNECTION_ERRORS)
