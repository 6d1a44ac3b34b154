"""The outermost layer: whatever goes wrong below, the answer is clear JSON without internals."""

from __future__ import annotations

import asyncpg
import structlog
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from audit.errors import DatabaseUnavailable
from home.accounts.passwords import PasswordRefused
from home.accounts.preferences import Changed, TooLarge
from home.accounts.sessions import SecondFactorMissing, SignInRefused
from home.accounts.throttle import Throttled
from home.database.errors import reason_of

log = structlog.get_logger("groundwork.web")

RETRY_AFTER_SECONDS = 2
# What the database, or a parser, says of input that it cannot take.
UNUSABLE = (
    asyncpg.DataError,  # out of range, NUL, no JSON, no such text in this encoding
    asyncpg.IntegrityConstraintViolationError,
    asyncpg.ProgramLimitExceededError,  # a key too long for its index, JSON too deep
    OverflowError,
    RecursionError,
    ValueError,  # JSON, Unicode, unknown columns, numbers with thousands of digits ...
)
# piccolo's sign-in and forms take the types of what they are sent for granted.
UNCHECKED = ("/admin/public/", "/admin/api/forms/")
# Constraints whose violation has a sentence of its own.
SENTENCES = {
    "users_email_unique": "There is already an account with this e-mail address.",
    "users_email_check": "This is no e-mail address.",
    "users_no_self_approval": "Nobody approves their own account.",
    "users_last_superuser": "The last active superuser stays: appoint another one first.",
    "sync_history_over": "A sync run that is over does not change any more.",
    "sync_history_transition": "A sync run cannot go from this state to that one.",
}


def error_response(status: int, code: str, message: str, **headers: str) -> JSONResponse:
    """Requirement D5: `{"error": {"message", "code"}}`."""
    return JSONResponse({"error": {"message": message, "code": code}}, status, headers=headers)


CODES = {
    400: "bad_request",
    401: "unauthorized",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    409: "conflict",
    412: "precondition_failed",
    413: "too_large",
    422: "invalid",
}


async def http_error(request: Request, error: Exception) -> Response:
    """For Starlette's `exception_handlers`: 404, 405 and the like in our format."""
    assert isinstance(error, HTTPException)
    code = CODES.get(error.status_code, str(error.status_code))
    response = error_response(error.status_code, code, error.detail)
    response.headers.update(error.headers or {})
    return response


class ErrorMiddleware:
    """Answers what nobody below has: 503 without a database, 4xx for bad input, else 500."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = False

        async def watch(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self.app(scope, receive, watch)
        except Exception as error:
            response = answer_for(error, scope["path"])
            if started:
                raise
            await response(scope, receive, send)


def answer_for(error: Exception, path: str) -> Response:
    """The response to an exception; what is our own fault is logged."""
    while isinstance(error, ExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]  # of a middleware with a task of its own
    match error:
        case DatabaseUnavailable():
            log.warning("request_without_database", path=path, reason=error.reason)
            return error_response(
                503,
                "database_unavailable",
                "The database is unavailable. Try again in a moment.",
                **{"retry-after": str(RETRY_AFTER_SECONDS)},
            )
        case asyncpg.InsufficientResourcesError():
            return answer_for(DatabaseUnavailable(reason_of(error)), path)
        case Throttled():
            headers = {"retry-after": str(error.retry_after)}
            return error_response(429, "too_many_attempts", str(error), **headers)
        case SignInRefused():
            return error_response(401, "unauthorized", str(error))
        case SecondFactorMissing():
            return error_response(403, "second_factor_missing", str(error))
        case PasswordRefused():
            return error_response(422, "invalid", str(error))
        case Changed():
            return error_response(412, "precondition_failed", "This was changed meanwhile.")
        case TooLarge():
            return error_response(413, "too_large", "This is more than can be stored.")
        case asyncpg.IntegrityConstraintViolationError() if error.constraint_name in SENTENCES:
            return error_response(409, "conflict", SENTENCES[error.constraint_name])
    is_of_wrong_type = isinstance(error, AttributeError | TypeError) and path.startswith(UNCHECKED)
    if isinstance(error, UNUSABLE) or is_of_wrong_type:
        log.warning("unusable_input", path=path, error=type(error).__name__)
        return error_response(422, "invalid", "This value cannot be stored or searched for.")
    log.error("request_failed", path=path, exc_info=error)
    return error_response(500, "internal_error", "Something went wrong here. It has been logged.")
