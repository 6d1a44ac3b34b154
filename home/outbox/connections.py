"""Connections that are kept for the next request, for many short requests to few places.

A pool of httpx looks at each of its connections for each request, several times.
"""

from __future__ import annotations

import ssl
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import lru_cache
from typing import Any, TypeAlias

import httpcore
import httpx

IDLE_SECONDS = 2.0  # less than receivers wait before they close one
MOST_READ = 65_536  # bytes of an answer; who says more is asked on a new connection the next time

Headers: TypeAlias = Sequence[tuple[bytes, bytes]]
Look: TypeAlias = Callable[[str, dict[str, Any]], Awaitable[None]]
ERRORS = (
    httpcore.TimeoutException,
    httpcore.NetworkError,
    httpcore.ProtocolError,
    httpx.HTTPError,
    httpx.InvalidURL,
    OSError,
    UnicodeError,
)


class Connections:
    """Connections, each of which has one request at a time.

    Args:
        trusted: the authorities of TLS.
        look: hears of what happens on them (https://www.encode.io/httpcore/extensions/#trace).
    """

    def __init__(self, trusted: ssl.SSLContext, look: Look) -> None:
        self._trusted, self._look = trusted, look
        # By address, the one that was used last at the end.
        self._idle = defaultdict[str, list[httpcore.AsyncHTTPConnection]](list)

    async def post(self, address: str, headers: Headers, body: bytes) -> int:
        """Send a request; return the status of the answer. No redirect is followed.

        Raises:
            ERRORS: there was none.
        """
        url, ours = _place(address)
        length = (b"content-length", str(len(body)).encode())
        request = httpcore.Request(
            "POST", url, headers=[*ours, length, *headers], content=body,
            extensions={"trace": self._look},
        )  # fmt: skip
        if kept := await self._take(address):
            # A receiver may close it at any time; what it took all the same arrives twice.
            with suppress(httpcore.NetworkError, httpcore.RemoteProtocolError):
                return await self._ask(kept, request, address)
        return await self._ask(self._new(url.origin), request, address)

    async def _ask(
        self, connection: httpcore.AsyncHTTPConnection, request: httpcore.Request, address: str
    ) -> int:
        try:
            response = await connection.handle_async_request(request)
            await _finish(response)
        finally:
            if connection.is_available():
                self._idle[address].append(connection)
            else:
                await connection.aclose()
        return response.status

    async def _take(self, address: str) -> httpcore.AsyncHTTPConnection | None:
        """Return one that is open and waits, if there is one."""
        idle = self._idle[address]
        while idle:
            connection = idle.pop()
            if not connection.has_expired():
                return connection
            await connection.aclose()
        return None

    def _new(self, origin: httpcore.Origin) -> httpcore.AsyncHTTPConnection:
        return httpcore.AsyncHTTPConnection(origin, self._trusted, keepalive_expiry=IDLE_SECONDS)

    async def close(self) -> None:
        """Close all, when no request is under way."""
        for idle in self._idle.values():
            for connection in idle:
                await connection.aclose()
        self._idle.clear()


async def _finish(response: httpcore.Response) -> None:
    """Read what nobody wants to know, so that the connection can be used again."""
    read = 0
    async for part in response.aiter_stream():
        read += len(part)
        if read > MOST_READ:
            break
    await response.aclose()


@lru_cache(maxsize=100)
def _place(address: str) -> tuple[httpcore.URL, Headers]:
    """Return where an address leads, and the headers that say so.

    Raises:
        httpx.InvalidURL, httpx.UnsupportedProtocol: nowhere.
    """
    url = httpx.URL(address)
    if url.scheme not in ("http", "https") or not url.host:
        raise httpx.UnsupportedProtocol("no web address")
    request = httpx.Request("GET", url)
    if url.userinfo:
        request = next(httpx.BasicAuth(url.username, url.password).auth_flow(request))
    found = httpcore.URL(
        scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path
    )
    return found, request.headers.raw
