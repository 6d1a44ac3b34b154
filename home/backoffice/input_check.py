"""Bodies that come in for piccolo-admin, checked: it takes their types for granted."""

from __future__ import annotations

import math
from typing import Any

from pydantic_core import from_json
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from home.backoffice.answers import shown

LARGEST = 2**63 - 1  # of the integers that PostgreSQL has
WITH_BODY = ("POST", "PUT", "PATCH")
SIGN_OUT = "/public/logout"  # needs no body
UPLOAD = "/api/media"  # is a form with a file; all others are JSON
FORMS = ("multipart/form-data", "application/x-www-form-urlencoded")
# Fields that have to be texts; whatever is below the path of the sign-in is the sign-in, too.
TEXTS = {
    "/public/login": ("username", "password", "mfa_code", "mfa_provider_name"),
    "/api/change-password": ("current_password", "new_password", "confirm_new_password"),
}


class Unusable(Exception):
    """Input that cannot be used; the message says why."""


class InputCheck:
    """Middleware around piccolo-admin: refuses bodies that it would fail on."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"].removeprefix(scope.get("root_path", "")).rstrip("/")
        if scope["type"] != "http" or scope["method"] not in WITH_BODY or path == SIGN_OUT:
            await self.app(scope, receive, send)
            return
        body = await Request(scope, receive).body()  # how long it may be has been seen to before
        try:
            if path == UPLOAD:
                await _check_upload(scope, body)
            else:
                _check_json(path, Headers(scope=scope).get("content-type", ""), body)
        except Unusable as error:
            await shown(scope["path"], 422, "invalid", str(error))(scope, receive, send)
            return
        await self.app(scope, _again(body, receive), send)


def _again(body: bytes, receive: Receive) -> Receive:
    """Return a `receive` that gives a body that was read already."""
    left: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive_again() -> Message:
        return left.pop() if left else await receive()

    return receive_again


async def _check_upload(scope: Scope, body: bytes) -> None:
    try:
        async with Request(scope, _again(body, _nothing)).form():
            pass
    except HTTPException as error:  # which Starlette makes of its parser's
        raise Unusable("Send a form with a file.") from error


async def _nothing() -> Message:
    return {"type": "http.disconnect"}


def _check_json(path: str, content_type: str, body: bytes) -> None:
    """Refuse what is not a JSON object, and numbers that no column holds.

    Raises:
        Unusable: with what is wrong.
    """
    if content_type.partition(";")[0].strip().lower() in FORMS:
        raise Unusable("Send JSON, with Content-Type: application/json.")
    try:
        content = from_json(body, allow_inf_nan=False)
    except ValueError:  # not UTF-8, not JSON, too deep, half of a surrogate pair
        raise Unusable("Send a JSON object.") from None
    if not isinstance(content, dict):
        raise Unusable("Send a JSON object.")
    if not _fits(content):
        raise Unusable("A number is too large.")
    for prefix, names in TEXTS.items():
        for name in names if path.startswith(prefix) else ():
            if not isinstance(content.get(name, ""), str):
                raise Unusable(f"{name} has to be a text.")


def _fits(value: Any) -> bool:
    """Return whether PostgreSQL has such numbers; the parser bounds how deep they are."""
    match value:
        case dict():
            return all(map(_fits, value.values()))
        case list():
            return all(map(_fits, value))
        case float():
            return math.isfinite(value)
        case int():
            return abs(value) <= LARGEST
    return True
