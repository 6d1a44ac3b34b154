"""Each request gets an id and an actor: the trail and the logs say which it was, and from where.

It runs for every request but health checks, hence without helpers that copy headers around.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from ipaddress import IPv4Network, IPv6Network, ip_address

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from audit.context import Actor, current
from home.accounts.sessions import RequestInfo, request_info
from home.web.cookies import device_cookie, session_token

GIVEN_ID = re.compile(r"[A-Za-z0-9._-]{1,100}")
Networks = Sequence[IPv4Network | IPv6Network]

# Of the OWASP Secure Headers Project, as far as the back office works under them.
HEADERS = {
    "content-security-policy": "default-src 'self'; script-src 'self'; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data:; object-src 'none'; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
}
HTTPS_ONLY = {"strict-transport-security": "max-age=31536000"}


def security_headers(production: bool) -> dict[str, str]:
    """Return the headers of every answer."""
    return HEADERS | (HTTPS_ONLY if production else {})


# Everything else may hold what is somebody's, and stays in no cache unless it says otherwise.
STORABLE = ("/static/", "/admin/assets/", "/favicon.ico")
UNSTORED = (b"cache-control", b"no-store")
# Asked too often, and nobody's doing.
HEALTH = ("/api/health", "/health", "/health/live", "/metrics")


class RequestContext:
    """Middleware: `X-Request-ID` is taken or made, shows in the logs, and is returned.

    Args:
        trusted_proxies: networks whose X-Forwarded-For is believed.
        production: browsers are told to come by https only, and get cookies for https.
        direct: applications that answer a GET of their path, without a query, before anything else.
    """

    def __init__(
        self,
        app: ASGIApp,
        trusted_proxies: Networks,
        production: bool,
        direct: Mapping[str, ASGIApp] | None = None,
    ) -> None:
        self.app = app
        self.direct = direct or {}
        self.trusted_proxies = trusted_proxies
        self.production = production
        headers = security_headers(production)
        self.headers = [(name.encode(), value.encode()) for name, value in headers.items()]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":  # there are none, and no middleware would look at them
            await send({"type": "websocket.close"})
            return
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        if scope["path"] in HEALTH:
            await self._answer_health(scope, receive, send)
            return
        headers = dict(scope["headers"])
        sent = headers.get(b"x-request-id", b"").decode("latin-1")
        is_given = sent and GIVEN_ID.fullmatch(sent)
        request_id = sent if is_given else f"{random.getrandbits(64):016x}"
        actor = Actor(
            "anonymous",
            None,
            client_address(scope, self.trusted_proxies),
            request_id,
            scope["path"].startswith("/admin/"),
        )

        may_be_stored = scope["path"].startswith(STORABLE)

        async def with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                given = message["headers"]  # perhaps those of an answer that is shared
                more = [*self.headers, (b"x-request-id", request_id.encode())]
                if not may_be_stored and b"cache-control" not in dict(given):
                    more.append(UNSTORED)
                message["headers"] = [*given, *more]
            await send(message)

        user_agent = headers.get(b"user-agent", b"").decode("latin-1")
        cookies = headers.get(b"cookie", b"").decode("latin-1")
        is_secure = self.production or is_https(scope, headers, self.trusted_proxies)
        token, device = session_token(cookies, is_secure), device_cookie(cookies, is_secure)
        request_info.set(RequestInfo(user_agent, token, is_secure, device))
        context = current.set(actor)
        try:
            await self.app(scope, receive, with_id)
        finally:
            current.reset(context)

    async def _answer_health(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] in self.direct and scope["method"] == "GET" and not scope["query_string"]:
            await self.direct[scope["path"]](scope, receive, send)
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *self.headers]
            await send(message)

        await self.app(scope, receive, with_headers)


def is_https(scope: Scope, headers: Mapping[bytes, bytes], trusted_proxies: Networks) -> bool:
    """Return whether the browser speaks https, to us or to the proxy in front of us."""
    if scope["scheme"] == "https" or not trusted_proxies:
        return bool(scope["scheme"] == "https")
    proxy = scope["client"][0] if scope.get("client") else None
    return headers.get(b"x-forwarded-proto") == b"https" and _is_in(proxy, trusted_proxies)


def client_address(scope: Scope, trusted_proxies: Networks) -> str | None:
    """The address of the client: the first from the right that is not one of our proxies.

    What stands left of it in X-Forwarded-For was written by the client and proves nothing.
    """
    address: str | None = scope["client"][0] if scope.get("client") else None
    if not trusted_proxies:
        return address
    values = [value for name, value in scope["headers"] if name == b"x-forwarded-for"]
    forwarded = [part.strip() for part in b",".join(values).decode("latin-1").split(",")]
    while forwarded[-1:] and _is_in(address, trusted_proxies) and _is_address(forwarded[-1]):
        address = forwarded.pop()
    return address


def _is_address(text: str | None) -> bool:
    try:
        ip_address(text or "")
    except ValueError:
        return False
    return True


def _is_in(address: str | None, networks: Networks) -> bool:
    return _is_address(address) and any(ip_address(str(address)) in each for each in networks)
