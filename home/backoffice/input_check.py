"""What comes in for piccolo-admin, checked: it takes the types of what it is sent for granted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import parse_qsl

from piccolo.columns import Array
from piccolo.table import Table
from pydantic_core import from_json
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from home.web.error_responses import error_response

LARGEST = 2**63 - 1  # of the integers that PostgreSQL has
LONGEST = 8 * 1024  # bytes of a query
WITH_BODY = ("POST", "PUT", "PATCH")
# What needs no body, and what each field of the others has to be.
WITHOUT_BODY = ("/api/logout/", "/public/logout/")
TEXTS = {
    "/public/login/": ("username", "password", "mfa_code"),
    "/api/change-password/": ("current_password", "new_password", "confirm_password"),
}
TABLES = "/api/tables/"


class Unusable(Exception):
    """Input that cannot be used; the message says why."""


class InputCheck:
    """Middleware around piccolo-admin: refuses with 422 what it would fail on.

    Args:
        tables: that it shows.
    """

    def __init__(self, app: ASGIApp, tables: Iterable[type[Table]]) -> None:
        self.app = app
        self.tables = {table._meta.tablename: table for table in tables}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        try:
            self._check_query(path, scope["query_string"])
            if scope["method"] in WITH_BODY and path not in WITHOUT_BODY:
                body = await _read(receive)
                _check_body(path, body)
                receive = _again(body, receive)
        except Unusable as error:
            response = error_response(422, "invalid", str(error))
            await response(scope, receive, send)
            return
        await self.app(scope, receive, send)

    def _check_query(self, path: str, query: bytes) -> None:
        if not path.startswith(TABLES):
            return
        if len(query) > LONGEST:
            raise Unusable("The query is too long.")
        if (table := self.tables.get(path.removeprefix(TABLES).partition("/")[0])) is None:
            return  # which piccolo-admin answers with 404
        given = parse_qsl(query.decode("latin-1"), keep_blank_values=True)
        columns = {column._meta.name: column for column in table._meta.columns}
        for name, times in Counter(name.removesuffix("[]") for name, _ in given).items():
            if times > 1 and not isinstance(columns.get(name), Array):
                raise Unusable(f"{name} is given more than once.")
        for name, value in given:
            if name.endswith("[]") and not isinstance(columns.get(name[:-2]), Array):
                raise Unusable(f"{name} is not a list.")
            if name == "__order":
                _check_order(value, columns)


def _check_order(value: str, columns: Mapping[str, Any]) -> None:
    for part in value.split(","):
        column = columns.get(part.removeprefix("-"))
        if column is None or column._meta.secret:
            raise Unusable("__order names no column that can be seen.")


async def _read(receive: Receive) -> bytes:
    """Return the body; how long it may be, and take, has been seen to before."""
    parts: list[bytes] = []
    while True:
        message = await receive()
        parts.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(parts)


def _again(body: bytes, receive: Receive) -> Receive:
    """Return a `receive` that gives a body that was read already."""
    left: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive_again() -> Message:
        return left.pop() if left else await receive()

    return receive_again


def _check_body(path: str, body: bytes) -> None:
    """Refuse what is not a JSON object, and numbers that no column holds.

    Raises:
        Unusable: with what is wrong.
    """
    try:
        content = from_json(body, allow_inf_nan=False)
    except ValueError:  # not UTF-8, not JSON, too deep, half of a surrogate pair
        raise Unusable("Send a JSON object.") from None
    if not isinstance(content, dict):
        raise Unusable("Send a JSON object.")
    if not _fits(content):
        raise Unusable("A number is too large.")
    for name in TEXTS.get(path, ()):
        if not isinstance(content.get(name, ""), str):
            raise Unusable(f"{name} has to be a text.")


def _fits(value: Any) -> bool:
    """Return whether all integers are such as PostgreSQL has; the parser bounds the depth."""
    if isinstance(value, dict):
        return all(map(_fits, value.values()))
    if isinstance(value, list):
        return all(map(_fits, value))
    return not isinstance(value, int) or abs(value) <= LARGEST
