"""The session's cookie: `id` over plain http in development, else `__Host-id`, which browsers take
from this host over https only (RFC 6265bis, section 4.1.3.2).

piccolo-admin knows one name and makes its CSRF cookie without Secure; both are mended from outside.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from home.accounts.sessions import client
from home.web.read_your_writes import COOKIE as POSITION

PLAIN, HOST_ONLY = "id", "__Host-id"
# What else piccolo-admin is given: its own token against CSRF, and where somebody's writes are.
KEPT = ("csrftoken", POSITION)
# No other white space than browsers send, and of a value no character that could be read in two
# ways: what is understood here must be what every parser behind us understands.
PAIRS = {
    name: re.compile(rf"(?:^|;[ \t]*){name}=([^;]*)") for name in (PLAIN, HOST_ONLY, *KEPT)
}  # the last one counts, as in Starlette
VALUE = re.compile(r"[A-Za-z0-9_-]*")


def name_for(is_secure: bool) -> str:
    """The name of the cookie on a connection."""
    return HOST_ONLY if is_secure else PLAIN


def session_token(cookies: str, is_secure: bool) -> str:
    """The session's token in a Cookie header; empty when there is none."""
    return _value(cookies, name_for(is_secure))


def _value(cookies: str, name: str) -> str:
    found = PAIRS[name].findall(cookies)
    return found[-1] if found and VALUE.fullmatch(found[-1]) else ""


def set_session_cookie(response: Response, token: str) -> None:
    """Hand out a session's token, or take it back where it is empty."""
    is_secure = client.get().is_secure
    response.set_cookie(
        name_for(is_secure), token, None if token else 0,
        httponly=True, samesite="lax", secure=is_secure,
    )  # fmt: skip


class AdminCookies:
    """Middleware around piccolo-admin, below RequestContext."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        device = client.get()

        async def mend(message: Message) -> None:
            if device.is_secure and message["type"] == "http.response.start":
                message["headers"] = [
                    (name, _secured(value) if name == b"set-cookie" else value)
                    for name, value in message["headers"]
                ]
            await send(message)

        # Over https its CSRF check wants a list of hosts; RequestFilter has compared them already.
        headers = _with_understood_cookies(scope["headers"], device.token)
        await self.app({**scope, "headers": headers, "scheme": "http"}, receive, mend)


def _with_understood_cookies(
    headers: Iterable[tuple[bytes, bytes]], token: str
) -> list[tuple[bytes, bytes]]:
    """Return the headers with a Cookie header made anew, under the names piccolo-admin knows."""
    cookies = "; ".join(value.decode("latin-1") for name, value in headers if name == b"cookie")
    values = {name: _value(cookies, name) for name in KEPT} | {PLAIN: token}
    made = "; ".join(f"{name}={value}" for name, value in values.items() if value)
    others = [(name, value) for name, value in headers if name != b"cookie"]
    return [*others, (b"cookie", made.encode())] if made else others


def _secured(cookie: bytes) -> bytes:
    text = cookie.decode("latin-1")
    if text.startswith(f"{PLAIN}="):
        text = HOST_ONLY + text.removeprefix(PLAIN)
    return (text if "; secure" in text.lower() else f"{text}; Secure").encode("latin-1")
