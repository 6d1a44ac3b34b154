"""The outermost layer: whatever goes wrong below, the answer is clear JSON without internals."""

from __future__ import annotations

import structlog
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from home.errors import DatabaseUnavailable

log = structlog.get_logger("groundwork.web")

RETRY_AFTER_SECONDS = 2


def error_response(status: int, code: str, message: str, **headers: str) -> JSONResponse:
    """Requirement D5: `{"error": {"message", "code"}}`."""
    return JSONResponse({"error": {"message": message, "code": code}}, status, headers=headers)


async def http_error(request: Request, error: Exception) -> Response:
    """For Starlette's `exception_handlers`: 404, 405 and the like in our format."""
    assert isinstance(error, HTTPException)
    code = error.detail.lower().replace(" ", "_") if error.detail else str(error.status_code)
    response = error_response(error.status_code, code, error.detail)
    response.headers.update(error.headers or {})
    return response


class ErrorMiddleware:
    """Answers what nobody below has answered: 503 without a database, else 500."""

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
            response = _answer_for(error, scope)
            if started:
                raise
            await response(scope, receive, send)


def _answer_for(error: Exception, scope: Scope) -> Response:
    if isinstance(error, DatabaseUnavailable):
        log.warning("request_without_database", path=scope["path"], reason=error.reason)
        return error_response(
            503,
            "database_unavailable",
            "The database is unavailable. Try again in a moment.",
            **{"retry-after": str(RETRY_AFTER_SECONDS)},
        )
    log.error("request_failed", path=scope["path"], exc_info=error)
    return error_response(500, "internal_error", "Something went wrong here. It has been logged.")
