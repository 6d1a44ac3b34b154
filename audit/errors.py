"""The one tree of exceptions. The first line of a docstring is the message people see.

GroundworkError
├── Refused                    somebody may not do this, or not in this way: 422
├── DatabaseUnavailable        no answer from the database: 503, try again
│   └── PoolTimeout            all connections stayed in use: 503, try again
└── ...                        each module adds what can go wrong in it

What a command refuses is another tree, see audit.cli.CommandError.
"""

from __future__ import annotations

from typing import ClassVar


class GroundworkError(Exception):
    """Something went wrong.

    `status` and `code` say how it is answered over HTTP; 500 is a mistake of ours, and logged.
    """

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal_error"

    def __init__(self, message: str = "") -> None:
        super().__init__(message or (self.__doc__ or "").partition("\n")[0])

    @property
    def retry_after(self) -> int | None:
        """Seconds after which it is worth trying again."""
        return None


class Refused(GroundworkError):
    """This is refused."""

    status, code = 422, "refused"


class DatabaseUnavailable(GroundworkError, ConnectionError):
    """The database did not answer; nothing is known to be stored. Try again.

    Args:
        reason: a code from which an administrator knows what to look at, without internals.
        hint: what to do about it, for logs and commands.
    """

    status = 503
    code = "database_unavailable"

    def __init__(self, reason: str, hint: str = "") -> None:
        super().__init__(f"the database is unavailable: {reason}" + (hint and f"; {hint}"))
        self.reason = reason
        self.hint = hint

    @property
    def retry_after(self) -> int:
        return 2


class PoolTimeout(DatabaseUnavailable):
    """All connections stayed in use for longer than the connection timeout. Try again."""

    def __init__(self) -> None:
        super().__init__("all_connections_in_use")
