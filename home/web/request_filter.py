"""What is refused before anybody looks at it: strangers' networks, other sites, bodies too long."""

from __future__ import annotations

import re
from collections.abc import Sequence
from ipaddress import ip_address
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from audit.context import current_actor
from audit.log import Logger
from home.accounts.preferences import TooLarge
from home.web.error_responses import error_response
from home.web.request_context import HEALTH, Networks

MAX_BODY_BYTES = 1024 * 1024
TOO_LARGE = error_response(413, "too_large", "A request holds at most 1 MiB.")
SAFE = ("GET", "HEAD", "OPTIONS")

log = Logger("groundwork.web")


class RequestFilter:
    """Middleware below RequestContext, which knows the client's address.

    Args:
        allowed_networks: who may come at all; empty is everybody. Health is told to all.
        allowed_hosts: names that the application is reached by; empty is any.
    """

    def __init__(
        self, app: ASGIApp, allowed_networks: Networks, allowed_hosts: Sequence[str] = ()
    ) -> None:
        self.app = app
        self.allowed_networks = allowed_networks
        self.allowed_hosts = frozenset(host.lower() for host in allowed_hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in HEALTH:
            await self.app(scope, receive, send)
            return
        refusal = self._refusal(scope)
        if refusal is not None:
            await refusal(scope, receive, send)
            return
        if scope["method"] in SAFE:
            await self.app(scope, receive, send)
            return
        try:
            body = await _body(receive)
        except TooLarge:
            await TOO_LARGE(scope, receive, send)
            return
        except ClientDisconnect:
            log.debug("client_disconnected", path=scope["path"])
            return
        messages = [{"type": "http.request", "body": body, "more_body": False}]

        async def receive_whole() -> Message:
            return messages.pop() if messages else await receive()

        await self.app(scope, receive_whole, send)

    def _refusal(self, scope: Scope) -> Response | None:
        hosts = [value for name, value in scope["headers"] if name == b"host"]
        if len(hosts) != 1 or not hosts[0]:  # RFC 9112, section 3.2
            return error_response(400, "bad_request", "A request names one host.")
        if self.allowed_networks and not self._is_allowed():
            return error_response(403, "forbidden", "This network may not use the application.")
        if scope["method"] in SAFE and not self.allowed_hosts:
            return None
        headers = Headers(scope=scope)
        if self.allowed_hosts and _name(headers.get("host", "")) not in self.allowed_hosts:
            return error_response(400, "bad_request", "The application has another name.")
        if scope["method"] in SAFE:
            return None
        if not _is_same_origin(headers):
            return error_response(403, "forbidden", "This request came from another site.")
        if not _has_known_charset(headers):
            return error_response(415, "unsupported_media_type", "Send the form in UTF-8.")
        length = headers.get("content-length", "0")
        if not length.isdigit() or int(length[:20]) > MAX_BODY_BYTES:
            return TOO_LARGE
        return None

    def _is_allowed(self) -> bool:
        actor = current_actor()
        try:
            address = ip_address((actor and actor.ip_address) or "")
        except ValueError:
            return False
        return any(address in network for network in self.allowed_networks)


async def _body(receive: Receive) -> bytes:
    """Return the whole body, so that nobody below waits for a client.

    Raises:
        TooLarge: it goes on, without Content-Length, or with a lie in it.
        ClientDisconnect: the client hung up, or was too slow.
    """
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        body += message.get("body", b"")
        if len(body) > MAX_BODY_BYTES:
            raise TooLarge
        if not message.get("more_body", False):
            return bytes(body)


def _name(host: str) -> str:
    """The name without the port."""
    return re.sub(r":\d*$", "", host).lower()


def _is_same_origin(headers: Headers) -> bool:
    """Browsers say where an unsafe request comes from; programs say nothing, without harm."""
    site = headers.get("sec-fetch-site")
    if site is not None:
        return site in ("same-origin", "none")
    origin = headers.get("origin")
    try:
        return origin is None or urlsplit(origin).netloc == headers.get("host", "")
    except ValueError:  # no address
        return False


def _has_known_charset(headers: Headers) -> bool:
    """Return whether a form in parts is in UTF-8: other codecs fail, or take very long."""
    if not headers.get("content-type", "").lower().startswith("multipart/"):
        return True
    from python_multipart.multipart import parse_options_header

    _, options = parse_options_header(headers["content-type"])
    return options.get(b"charset", b"utf-8").lower() in (b"utf-8", b"utf8")
