"""What piccolo-admin answers to errors: our format, with a sentence that its pages find."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping

import asyncpg
from fastapi import FastAPI
from fastapi.exception_handlers import http_exception_handler
from piccolo_api.crud import exceptions
from starlette.exceptions import HTTPException
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount

from audit.errors import GroundworkError
from home.web.error_responses import CODES, answer_for

# Below these its pages want a list as `detail` of a 422, and show `custom_form_error` as it is.
LISTS = ("/admin/api/tables/", "/admin/api/forms/")
# What piccolo-api would answer with PostgreSQL's words, and a traceback in the log.
VIOLATIONS = (
    "CheckViolationError", "ForeignKeyViolationError", "NotNullViolationError",
    "RestrictViolationError", "UniqueViolationError",
)  # fmt: skip
# «Key (name, pieces)=(x, 1) already exists.» in any language: the columns come before the values.
COLUMNS = re.compile(r"\(([^()]+)\)=\(")


class _Never(Exception):
    """Nobody raises it."""


class Surfaced(HTTPException):
    """Carries an exception of ours, as its cause, through code that takes it for an answer."""

    def __init__(self) -> None:
        super().__init__(500)


def shown(path: str, status: int, code: str, message: str) -> JSONResponse:
    """Return an error in our format that piccolo-admin's page shows as a sentence."""
    is_list = status == 422 and path.startswith(LISTS)
    key = "custom_form_error" if is_list else "detail"
    return JSONResponse({"error": {"message": message, "code": code}, key: message}, status)


def answer_errors(admin: FastAPI, sentences: Mapping[str, str]) -> None:
    """Let piccolo-admin answer our exceptions and the database's as the rest of the application
    does. What it knows nothing of goes on to ErrorMiddleware, which logs it.

    Args:
        sentences: the messages for violated constraints, by name.
    """

    async def from_error(request: Request, error: Exception) -> Response:
        path = request.scope["path"]
        cause = error.__cause__ if isinstance(error, Surfaced) else error
        assert isinstance(cause, Exception)
        if isinstance(cause, asyncpg.IntegrityConstraintViolationError):
            status = 422 if path.startswith(LISTS) else 409
            return shown(path, status, "conflict", sentence_of(cause, sentences))
        answer = answer_for(cause, path, sentences)
        body = json.loads(bytes(answer.body))["error"]
        response = shown(path, answer.status_code, body["code"], body["message"])
        if "retry-after" in answer.headers:
            response.headers["retry-after"] = answer.headers["retry-after"]
        return response

    for app in applications(admin):
        app.add_exception_handler(500, _hand_on)
        app.add_exception_handler(HTTPException, _from_http_error)
        for kind in (GroundworkError, asyncpg.PostgresError, Surfaced):
            app.add_exception_handler(kind, from_error)


def sentence_of(
    error: asyncpg.IntegrityConstraintViolationError, sentences: Mapping[str, str]
) -> str:
    """Return what an administrator reads of a violated constraint: its sentence, or its name.

    Args:
        sentences: the messages for violated constraints, by name.
    """
    rule = str(error.constraint_name or "of the database")
    if (sentence := sentences.get(rule)) is not None:
        return sentence
    match error:
        case asyncpg.NotNullViolationError():
            return f"A value is missing: {error.column_name}."
        case asyncpg.UniqueViolationError():
            columns = COLUMNS.search(error.detail or "")
            return f"Another row has the same {columns[1] if columns else 'values'} (rule {rule})."
        case asyncpg.ForeignKeyViolationError() | asyncpg.RestrictViolationError():
            return (
                f"Rows of {error.table_name} refer to other rows, and one of these would be missing"
                f" (rule {rule})."
            )
    return f"This breaks the rule {rule}."


def let_violations_through() -> None:
    """Let constraint violations reach `answer_errors`."""
    for name in VIOLATIONS:
        setattr(exceptions, name, _Never)


def applications(admin: FastAPI) -> Iterator[FastAPI]:
    """Yield piccolo-admin and the applications that it is made of: private and public."""
    yield admin
    for route in admin.routes:
        app = route.app if isinstance(route, Mount) else None
        if isinstance(app, AuthenticationMiddleware):
            app = app.app
        if isinstance(app, FastAPI):
            yield app


def leave_out(admin: FastAPI, path: str) -> None:
    """Take what piccolo-admin mounts at a path out of its routes, with all that is below."""
    for app in applications(admin):
        app.router.routes[:] = [
            route
            for route in app.routes
            if not (isinstance(route, Mount) and route.path.startswith(path))
        ]


async def _hand_on(request: Request, error: Exception) -> Response:
    """Stand for piccolo-admin's handler, which logs a traceback in each of its applications."""
    raise error


async def _from_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    path = request.scope["path"]
    if error.status_code == 422 and path.startswith(LISTS) and isinstance(error.detail, str):
        return shown(path, 422, CODES[422], error.detail)
    return await http_exception_handler(request, error)
