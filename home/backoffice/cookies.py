"""piccolo-admin's cookies: it knows one name for the session's, and makes its CSRF cookie without
Secure. Both are mended from outside."""

from __future__ import annotations

from collections.abc import Iterable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from home.accounts.sessions import request_info
from home.web.cookies import HOST_ONLY, KEPT, PLAIN, cookie_value


class AdminCookies:
    """Middleware around piccolo-admin, below RequestContext."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        device = request_info.get()

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
    values = {name: cookie_value(cookies, name) for name in KEPT} | {PLAIN: token}
    made = "; ".join(f"{name}={value}" for name, value in values.items() if value)
    others = [(name, value) for name, value in headers if name != b"cookie"]
    return [*others, (b"cookie", made.encode())] if made else others


def _secured(cookie: bytes) -> bytes:
    text = cookie.decode("latin-1")
    if text.startswith(f"{PLAIN}="):
        text = HOST_ONLY + text.removeprefix(PLAIN)
    return (text if "; secure" in text.lower() else f"{text}; Secure").encode("latin-1")
