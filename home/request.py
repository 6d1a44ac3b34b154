"""Each request gets an id and an actor: the trail and the logs say which it was, and from where."""

from __future__ import annotations

import re
import secrets
from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Network, ip_address

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import cookie_parser
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.contextvars import bound_contextvars

from audit.context import Actor, acting_as
from home.sessions import Client, client

GIVEN_ID = re.compile(r"[A-Za-z0-9._-]{1,100}")
COOKIE = "id"  # of the session; piccolo-admin knows no other name
HEALTH = ("/api/health", "/health", "/health/live")  # asked too often, and nobody's doing


class RequestContext:
    """Middleware: `X-Request-ID` is taken or made, bound to the logs, and returned.

    Args:
        trusted_proxies: networks whose X-Forwarded-For is believed.
    """

    def __init__(self, app: ASGIApp, trusted_proxies: Sequence[IPv4Network | IPv6Network]) -> None:
        self.app = app
        self.trusted_proxies = trusted_proxies

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in HEALTH:
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        given = headers.get("x-request-id", "")
        request_id = given if GIVEN_ID.fullmatch(given) else secrets.token_hex(8)
        actor = Actor(
            "anonymous",
            ip_address=client_address(scope, headers, self.trusted_proxies),
            request_id=request_id,
            is_admin_action=scope["path"].startswith("/admin/"),
        )

        async def with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)["x-request-id"] = request_id
            await send(message)

        token = cookie_parser(headers.get("cookie", "")).get(COOKIE, "")
        client.set(Client(headers.get("user-agent", ""), token))
        with acting_as(actor), bound_contextvars(request_id=request_id):
            await self.app(scope, receive, with_id)


def is_secure(scope: Scope) -> bool:
    """Whether the browser speaks https, to us or to the proxy in front of us."""
    return bool(scope["scheme"] == "https")


def client_address(
    scope: Scope, headers: Headers, trusted_proxies: Sequence[IPv4Network | IPv6Network]
) -> str | None:
    """The address of the client: the first from the right that is not one of our proxies.

    What stands left of it in X-Forwarded-For was written by the client and proves nothing.
    """
    client = scope.get("client")
    address: str | None = client[0] if client else None
    forwarded = [part.strip() for part in ",".join(headers.getlist("x-forwarded-for")).split(",")]
    while forwarded[-1:] and _is_in(address, trusted_proxies) and _is_address(forwarded[-1]):
        address = forwarded.pop()
    return address if _is_address(address) else None


def _is_address(text: str | None) -> bool:
    try:
        ip_address(text or "")
    except ValueError:
        return False
    return True


def _is_in(address: str | None, networks: Sequence[IPv4Network | IPv6Network]) -> bool:
    return _is_address(address) and any(ip_address(str(address)) in each for each in networks)
