"""What the driver raises for a connection that is gone becomes DatabaseUnavailable, here only."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager

from asyncpg import exceptions as pg

from audit.errors import DatabaseUnavailable
from audit.log import Logger

log = Logger("groundwork.database")

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


def reason_of(error: BaseException) -> str:
    """Return a code that tells an administrator what to look at, without internals."""
    if isinstance(error, DatabaseUnavailable):
        return error.reason
    if isinstance(error, ConnectionError) and "SSL" in str(
        error
    ):  # asyncpg: «rejected SSL upgrade»
        return "tls_failed"
    return next((code for kind, code in REASONS if isinstance(error, kind)), "connection_lost")


def is_lost_connection(error: BaseException) -> bool:
    """Return whether the connection failed rather than the statement."""
    if isinstance(error, pg.InterfaceError):
        # asyncpg: «connection is closed», «pool is closing», «has been released back to the pool»
        return any(word in str(error) for word in ("closed", "closing", "released"))
    return isinstance(error, CONNECTION_ERRORS)


# Of a statement. Around a block of other code only InterfaceError is surely the driver's.
DRIVER_ERRORS = (OSError, pg.PostgresError, pg.InterfaceError, pg.InternalClientError)


@contextmanager
def translated(
    kinds: tuple[type[Exception], ...] = DRIVER_ERRORS, *, is_news: bool = True
) -> Iterator[None]:
    """Raise DatabaseUnavailable in place of what the driver says of a connection that is gone.

    Around statements, and around what leaves a transaction or gives a connection back: asyncpg
    raises InterfaceError there, which is neither a PostgresError nor a ConnectionError.

    Args:
        kinds: what the driver may raise here.
        is_news: it is logged; else the cause has been.
    """
    try:
        yield
    except DatabaseUnavailable:
        raise
    except kinds as error:
        if not is_lost_connection(error):
            raise
        reason = reason_of(error)
        if is_news:
            log.warning("connection_failed", reason=reason, error=type(error).__name__)
        raise DatabaseUnavailable(reason) from error
