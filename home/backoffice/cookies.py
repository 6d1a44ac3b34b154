"""piccolo-admin's cookies: it knows one name for the session's, and makes its CSRF cookie without
Secure. Both are mended from outside."""

from __future__ import annotations

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from home.accounts.sessions import request_info
from home.web.cookies import HOST_ONLY, PLAIN


class AdminCookies:
    """Middleware around piccolo-admin, below RequestContext."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        device = request_info.get()
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
