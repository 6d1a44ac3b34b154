"""What the driver raises for a connection that is gone becomes DatabaseUnavailable, here only."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl

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
    pg.ReadOnlySQLTransactionError,  # the address leads to another server than it should
    pg.InvalidCachedStatementError,  # a table was changed in the middle of a transaction
)

# First match wins. The codes are what health answers show: they hold no internals.
REASONS: tuple[tuple[type[BaseException], str], ...] = (
    (pg.ReadOnlySQLTransactionError, "read_only"),
    (pg.TargetServerAttributeNotMatched, "wrong_server"),
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
    (pg.InvalidCachedStatementError, "schema_changed"),
)

# What to do, where the code does not say it.
HINTS = {
    "read_only": "this server takes no changes: it is a standby, or its default is read-only",
    "wrong_server": "there is no server as target_session_attrs in DATABASE_URL asks for",
    "pooler_not_configured": "there is a pooler in between: set DB_POOLER=transaction",
    "encoding_not_utf8": "create the database with ENCODING 'UTF8'",
    "strings_not_standard": "set standard_conforming_strings = on for the role or the database",
}


def reason_of(error: BaseException) -> str:
    """Return a code that names what an administrator should look at, without internals."""
    if isinstance(error, DatabaseUnavailable):
        return error.reason
    if _is_of_pooler(error):
        return "pooler_not_configured"
    if isinstance(error, ConnectionError) and "SSL" in str(error):  # «rejected SSL upgrade»
        return "tls_failed"
    return next((code for kind, code in REASONS if isinstance(error, kind)), "connection_lost")


def is_lost_connection(error: BaseException) -> bool:
    """Return whether the connection failed rather than the statement."""
    if isinstance(error, pg.InterfaceError):
        # asyncpg: «connection is closed», «pool is closing», «has been released back to the pool»
        return any(word in str(error) for word in ("closed", "closing", "released"))
    return isinstance(error, CONNECTION_ERRORS) or _is_of_pooler(error)


def _is_of_pooler(error: BaseException) -> bool:
    """Return whether it is what a pooler in transaction mode says to who relies on a session."""
    if isinstance(error, pg.ProtocolViolationError):
        return "startup parameter" in str(error)  # PgBouncer speaks English only
    lost = (pg.InvalidSQLStatementNameError, pg.DuplicatePreparedStatementError)
    return isinstance(error, lost) and "__asyncpg_" in str(error)


def unavailable(reason: str, *details: str) -> DatabaseUnavailable:
    """Return the error for a reason, with what to do about it, for logs and commands."""
    return DatabaseUnavailable(reason, "; ".join(filter(None, (*details, HINTS.get(reason)))))


# Of a statement. Around a block of other code only InterfaceError is surely the driver's.
DRIVER_ERRORS = (OSError, pg.PostgresError, pg.InterfaceError, pg.InternalClientError)


class translated:
    """Raise DatabaseUnavailable in place of what the driver says of a connection that is gone.

    Around statements, and around what leaves a transaction or gives a connection back: asyncpg
    raises InterfaceError there, which is neither a PostgresError nor a ConnectionError. What only
    `follows` from another error is not logged again.
    """

    __slots__ = ("follows", "kinds")

    def __init__(
        self, kinds: tuple[type[Exception], ...] = DRIVER_ERRORS, *, follows: bool = False
    ) -> None:
        self.kinds = kinds
        self.follows = follows

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if not isinstance(error, self.kinds) or isinstance(error, DatabaseUnavailable):
            return
        if not is_lost_connection(error):
            return
        found = unavailable(reason_of(error))
        hint = {"hint": found.hint} if found.hint else {}
        level = logging.DEBUG if self.follows else logging.WARNING
        name = type(error).__name__
        log.log(level, "connection_failed", reason=found.reason, error=name, **hint)
        raise found from error
