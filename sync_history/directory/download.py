"""Getting a file from the web or from the disk: bounded in time and size, never whole in memory."""

from __future__ import annotations

import asyncio
import logging
import socket
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus
from ipaddress import ip_address
from pathlib import Path
from typing import IO, Any

import httpx

from sync_history.sources import SyncFailed

BIGGEST = 200 * 1024 * 1024  # bytes
SILENCE_SECONDS = 30.0
SECONDS = 600.0
REDIRECTS = 5

for name in ("httpx", "httpcore"):  # they log addresses and headers, which may hold secrets
    logging.getLogger(name).setLevel(logging.WARNING)


@dataclass(frozen=True)
class File:
    """A file that was downloaded.

    Args:
        path: where it lies; None when it is still the version that is known.
        etag: the version's name, if the server gives it one.
    """

    path: Path | None
    etag: str | None = None


@asynccontextmanager
async def fetched(address: str, token: str | None, known: str | None) -> AsyncIterator[File]:
    """Have the file at an address, for the length of the block.

    Args:
        address: http://, https://, or a path.
        token: sent as a bearer token, to this address's host only.
        known: the ETag of the version that need not be sent again.

    Raises:
        SyncFailed: it cannot be got.
    """
    if not address.lower().startswith(("http://", "https://")):
        yield File(_on_disk(address))
        return
    with tempfile.NamedTemporaryFile(prefix="groundwork-directory-") as target:
        try:
            async with asyncio.timeout(SECONDS):
                file = await _download(address, token, known, target)
        except TimeoutError:
            raise SyncFailed(
                f"The directory's server did not send all of it within {SECONDS:g} seconds."
            ) from None
        yield file


def _on_disk(address: str) -> Path:
    path = Path(address)
    try:
        if not path.is_file():
            raise SyncFailed("DIRECTORY_URL: there is no such file. Nothing was changed.")
        if path.stat().st_size > BIGGEST:
            raise SyncFailed(_too_big())
        path.open("rb").close()
    except (OSError, ValueError):
        raise SyncFailed("DIRECTORY_URL: the file cannot be read; check its rights.") from None
    return path


async def _download(address: str, token: str | None, known: str | None, target: IO[bytes]) -> File:
    # Compressed answers are declined: how big they are shows only after they were unpacked.
    headers = {"Accept": "application/json, text/csv", "Accept-Encoding": "identity"}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    if known:
        headers["If-None-Match"] = known
    try:
        async with httpx.AsyncClient(timeout=httpx.Timeout(SILENCE_SECONDS)) as client:
            request = client.build_request("GET", address, headers=headers)
            response = await _follow(client, request)
            try:
                if known and response.status_code == HTTPStatus.NOT_MODIFIED:
                    return File(None, known)
                _refuse_unless_ok(response)
                await _store(response, target)
                return File(Path(target.name), response.headers.get("ETag"))
            finally:
                await response.aclose()
    except httpx.TimeoutException:
        raise SyncFailed("The directory's server does not answer. Try again later.") from None
    except (httpx.InvalidURL, httpx.UnsupportedProtocol, UnicodeError):
        raise SyncFailed("DIRECTORY_URL: this is no address of a file.") from None
    except httpx.HTTPError as error:
        kind = type(error).__name__
        raise SyncFailed(
            f"The directory could not be fetched completely ({kind}). Nothing was changed."
        ) from None
    except OSError as error:
        raise SyncFailed(
            f"The directory cannot be kept in the temporary folder: {error.strerror}."
        ) from None


async def _follow(client: httpx.AsyncClient, request: httpx.Request) -> httpx.Response:
    """Return the answer after redirects. httpx sends the token to no other host."""
    way = _Way(request)
    for _ in range(REDIRECTS + 1):
        await way.take(request)
        response = await client.send(request, stream=True)
        if response.next_request is None:
            return response
        await response.aclose()
        request = response.next_request
    raise SyncFailed("The directory's server redirects in circles.")


class _Way:
    """The way of a download through redirects, which does not lead where the server of
    DIRECTORY_URL must not make us go: others trust this machine.

    A host's name may mean another address at the next look. So what counts is the address at the
    other end of a connection, before anything is sent on it.
    """

    def __init__(self, first: httpx.Request) -> None:
        self.starts_inside = False
        self._first = first
        self._request = first
        self._connects_to = ""

    async def take(self, request: httpx.Request) -> None:
        """Look at where a request leads, and have its connection looked at.

        Raises:
            SyncFailed: there it must not lead.
        """
        is_inside = any(map(is_internal, await addresses_of(request.url.host)))
        if request is self._first:
            self.starts_inside = is_inside
        elif self._first.url.scheme == "https" and request.url.scheme != "https":
            raise SyncFailed("The directory's server redirects to an address without encryption.")
        else:
            self._check(is_inside)
        self._request = request
        request.extensions["trace"] = self._look

    def _check(self, is_inside: bool) -> None:
        if is_inside and not self.starts_inside:
            raise SyncFailed(
                "The directory's server redirects to an internal address. "
                "If that is meant, let DIRECTORY_URL name it."
            )

    async def _look(self, event: str, info: dict[str, Any]) -> None:
        """Check a connection that is open now: https://www.encode.io/httpcore/extensions/#trace"""
        if event == "connection.connect_tcp.started":
            self._connects_to = info["host"]
        if event != "connection.connect_tcp.complete":
            return
        if self._connects_to != self._request.url.raw_host.decode():
            return  # to a proxy, which somebody here has set up
        stream = info["return_value"]
        is_inside = is_internal(stream.get_extra_info("server_addr")[0])
        if self._request is self._first:
            self.starts_inside = is_inside
            return
        try:
            self._check(is_inside)
        except SyncFailed:
            await stream.aclose()
            raise


def is_internal(address: str) -> bool:
    """Return whether an IP address is this machine, or one that the internet cannot reach."""
    found = ip_address(address)
    # An IPv4 address may come in the clothes of an IPv6 one.
    plain = getattr(found, "ipv4_mapped", None) or found
    return plain.is_multicast or not plain.is_global


async def addresses_of(host: str) -> list[str]:
    """Return the IP addresses of a host; none if nobody here knows it, but perhaps a proxy."""
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, None)
    except socket.gaierror:
        return []
    return [str(entry[4][0]) for entry in found]


def _refuse_unless_ok(response: httpx.Response) -> None:
    status = response.status_code
    if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        raise SyncFailed(f"The directory's server refuses us ({status}). Check DIRECTORY_TOKEN.")
    if status != HTTPStatus.OK:
        raise SyncFailed(f"The directory's server answered {status}. Nothing was changed.")
    if response.headers.get("Content-Encoding", "identity") != "identity":
        raise SyncFailed("The directory's server sends it compressed, although asked not to.")


async def _store(response: httpx.Response, target: IO[bytes]) -> None:
    stored = 0
    async for chunk in response.aiter_raw():
        stored += len(chunk)
        if stored > BIGGEST:
            raise SyncFailed(_too_big())
        target.write(chunk)
    target.flush()


def _too_big() -> str:
    return f"The directory is bigger than {BIGGEST // 1024**2} MiB. Nothing was changed."
