"""The session's cookie: `id` over plain http in development, else `__Host-id`, which browsers take
from this host over https only (RFC 6265bis, section 4.1.3.2).

piccolo-admin knows one name and makes its CSRF cookie without Secure; both are mended from outside.
"""

from __future__ import annotations

import re

from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from home.accounts.sessions import client

PLAIN, HOST_ONLY = "id", "__Host-id"
PAIRS = {
    name: re.compile(rf"(?:^|;\s*){name}=([^;]*)") for name in (PLAIN, HOST_ONLY)
}  # the last one counts, as in Starlette


def name_for(is_secure: bool) -> str:
    """The name of the cookie on a connection."""
    return HOST_ONLY if is_secure else PLAIN


def session_token(cookies: str, is_secure: bool) -> str:
    """The session's token in a Cookie header; empty when there is none."""
    found = PAIRS[name_for(is_secure)].findall(cookies)
    return found[-1] if found else ""


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
        if not device.is_secure:
            await self.app(scope, receive, send)
            return

        async def mend(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [
                    (name, _secured(value) if name == b"set-cookie" else value)
                    for name, value in message["headers"]
                ]
            await send(message)

        headers = [
            (name, _as_plain(value, device.token) if name == b"cookie" else value)
            for name, value in scope["headers"]
        ]
        # Over https its CSRF check wants a list of hosts; RequestFilter has compared them already.
        await self.app({**scope, "headers": headers, "scheme": "http"}, receive, mend)


def _as_plain(cookies: bytes, token: str) -> bytes:
    """The header with the session's token, if any, under the name that piccolo-admin knows."""
    pairs = [pair.strip() for pair in cookies.decode("latin-1").split(";")]
    others = [pair for pair in pairs if not pair.startswith((f"{PLAIN}=", f"{HOST_ONLY}="))]
    return "; ".join([*others, f"{PLAIN}={token}"] if token else others).encode("latin-1")


def _secured(cookie: bytes) -> bytes:
    text = cookie.decode("latin-1")
    if text.startswith(f"{PLAIN}="):
        text = HOST_ONLY + text.removeprefix(PLAIN)
    return (text if "; secure" in text.lower() else f"{text}; Secure").encode("latin-1")
