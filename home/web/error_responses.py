"""The outermost layer: whatever goes wrong below, the answer is clear and without internals.

Programs get JSON, browsers a page.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import asyncpg
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from audit.context import current_actor
from audit.errors import DatabaseUnavailable, GroundworkError
from audit.log import Logger
from home.database.errors import reason_of
from home.web.pages import person_if_known
from home.web.rendering import render

log = Logger("groundwork.web")

# What the database says of values that it cannot take: out of range, NUL, no such text in this
# encoding, a key too long for its index, JSON too deep.
UNUSABLE = (asyncpg.DataError, asyncpg.ProgramLimitExceededError)


# With this uvicorn cancels what is still under way when it has waited long enough to end.
CUT_OFF = "Task cancelled, timeout graceful shutdown exceeded"


class ConflictingChanges(GroundworkError):
    """Others changed the same at the same moment; nothing was stored. Try again.

    A deadlock, a lock that was not given in time, or a serialization failure.
    """

    status, code, retry_after = 503, "conflicting_changes", 1


class ErrorResponse(JSONResponse):
    """An error as every one looks: `{"error": {"message", "code"}}`, or a page with the message
    where the client takes HTML."""

    def __init__(self, status: int, code: str, message: str, headers: Mapping[str, str]) -> None:
        super().__init__({"error": {"message": message, "code": code}}, status, headers)
        self.message = message

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope)
        if "text/html" not in request.headers.get("accept", "") or not _has_pages(request):
            await super().__call__(scope, receive, send)
            return
        if self.status_code == 404 and not hasattr(request.state, "person"):
            await person_if_known(request)
        actor = current_actor()
        page = render(
            request,
            "error.html",
            self.status_code,
            title=TITLES.get(self.status_code, "This did not work"),
            sentence=SENTENCES.get(self.message, self.message),
            request_id=actor and actor.request_id,
        )
        for name, value in self.headers.items():
            if not name.startswith("content-"):
                page.headers[name] = value
        await page(scope, receive, send)


def _has_pages(request: Request) -> bool:
    """Return whether it is our application that answers, not one that is mounted in it."""
    app = request.scope.get("app")
    return app is not None and hasattr(app.state, "templates")


def error_response(status: int, code: str, message: str, **headers: str) -> ErrorResponse:
    """Return an error, see ErrorResponse."""
    return ErrorResponse(status, code, message, headers)


TITLES = {
    403: "Not allowed",
    404: "There is no such page",
    405: "This did not work",
    429: "Too many attempts",
    500: "Something went wrong",
    503: "Not available at the moment",
}
# For people, in the place of what the framework says.
SENTENCES = {
    "Not Found": "There is nothing at this address. Perhaps it was moved, or the link is wrong.",
    "Method Not Allowed": "This address takes no such request. Go back, and try from there.",
}
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
    """Answers what nobody below has: 503 without a database, 4xx for bad input, else 500.

    Args:
        sentences: the messages for violated constraints, by name.
    """

    def __init__(self, app: ASGIApp, sentences: Mapping[str, str]) -> None:
        self.app = app
        self.sentences = sentences

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
            response = answer_for(error, scope["path"], self.sentences)
            if started:
                raise
            await response(scope, receive, send)
        except asyncio.CancelledError as error:
            if error.args != (CUT_OFF,):
                raise
            log.warning("request_cut_off", path=scope["path"])
            if not started:
                message = "The application is stopping. Try again in a moment."
                refusal = error_response(503, "unavailable", message, **{"retry-after": "1"})
                await refusal(scope, receive, send)


def answer_for(error: Exception, path: str, sentences: Mapping[str, str]) -> Response:
    """Return the response to an exception; a mistake of ours is logged with its traceback."""
    while isinstance(error, ExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]  # of a middleware with a task of its own
    match error:
        case DatabaseUnavailable():
            log.warning("request_without_database", path=path, reason=error.reason)
            return _refusal(error, "The database is unavailable. Try again in a moment.")
        case asyncpg.InsufficientResourcesError():
            return answer_for(DatabaseUnavailable(reason_of(error)), path, sentences)
        case asyncpg.TransactionRollbackError() | asyncpg.LockNotAvailableError():
            log.warning("conflicting_changes", path=path, error=type(error).__name__)
            return _refusal(ConflictingChanges(), str(ConflictingChanges()))
        case GroundworkError() if error.status < 500 or error.retry_after is not None:
            return _refusal(error, str(error))
        case asyncpg.IntegrityConstraintViolationError():
            sentence = sentences.get(error.constraint_name or "", "Conflicts with other data.")
            return error_response(409, "conflict", sentence)
    if isinstance(error, UNUSABLE):
        log.warning("unusable_input", path=path, error=type(error).__name__)
        return error_response(422, "invalid", "This value cannot be stored or searched for.")
    log.error("request_failed", path=path, exc_info=error)
    return error_response(500, "internal_error", "Something went wrong here. It has been logged.")


def _refusal(error: GroundworkError, message: str) -> Response:
    wait = error.retry_after
    headers = {} if wait is None else {"retry-after": str(wait)}
    return error_response(error.status, error.code, message, **headers)
