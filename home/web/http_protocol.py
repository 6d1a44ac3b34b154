"""uvicorn's HTTP/1.1 with an end to everything that comes in: bytes of a head, time for each part.

Its own protocol takes a request line, headers and trailers of any length, and waits for ever for
the first byte, for the rest of a head, and for a body.
"""

from __future__ import annotations

import json
from enum import Enum, auto
from time import monotonic
from typing import Any, ClassVar

import httptools
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from home.web.connections import LARGE_BYTES, Connections
from home.web.error_responses import error_response
from home.web.request_context import HEADERS, HEALTH

# As Apache bounds a request line, Node.js a whole head, Apache the number of its fields.
MAX_URL_BYTES = 8 * 1024
MAX_HEAD_BYTES = 16 * 1024
MAX_HEADERS = 100
# Bodies above 1 MiB are answered with 413. What still comes in of them is thrown away, up to here.
MAX_BODY_BYTES = 2 * 1024 * 1024
# Requests that a client may send ahead, before the answer to the first.
MAX_PIPELINED = 16


class Owes(Enum):
    """The next step that a client owes."""

    NOTHING = auto()  # its answer is being made
    FIRST_REQUEST = auto()
    REQUEST = auto()  # another one
    HEAD = auto()  # the rest of it
    BODY = auto()
    READING = auto()  # taking the answer
    LEAVING = auto()  # it was refused, and may read why


def _answer(status: int, code: str, message: str) -> bytes:
    body = json.dumps({"error": {"message": message, "code": code}}).encode()
    headers = HEADERS | {
        "content-type": "application/json",
        "content-length": str(len(body)),
        "connection": "close",
    }
    lines = [f"{name}: {value}\r\n".encode() for name, value in headers.items()]
    return b"".join([STATUS_LINE[status], *lines, b"\r\n", body])


ANSWERS = {
    400: _answer(400, "bad_request", "This is not a valid HTTP request."),
    408: _answer(408, "timeout", "The request took too long to arrive. Send it again."),
    413: _answer(413, "too_large", "A request holds at most 1 MiB."),
    414: _answer(414, "url_too_long", f"A URL holds at most {MAX_URL_BYTES // 1024} KiB."),
    431: _answer(
        431,
        "headers_too_large",
        f"Headers hold at most {MAX_HEAD_BYTES // 1024} KiB and {MAX_HEADERS} fields.",
    ),
}


class RequestRefused(Exception):
    """A request that is too large, or no request.

    Args:
        status: of the answer, one of ANSWERS.
    """

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class BoundedProtocol(HttpToolsProtocol):
    """One connection. `peers`, set by subclasses, are the connections of the server."""

    peers: ClassVar[Connections]
    # How long a client may take, in seconds, to the next look at it.
    patience: ClassVar[dict[Owes, float]] = {
        Owes.NOTHING: float("inf"),
        Owes.FIRST_REQUEST: 10,  # browsers connect ahead of a need
        Owes.REQUEST: 65,  # longer than proxies do, lest they use one that is just closing
        Owes.HEAD: 10,  # all of it, from its first byte on
        Owes.BODY: 30,  # 1 MiB at 35 kB/s, a slow phone
        Owes.READING: 30,  # anything at all of the answer
        Owes.LEAVING: 2,
    }

    since = 0.0
    _seen: tuple[Owes, int] | None = None
    _seen_scope: Any = None
    # Bytes since the last part that was complete; what stands before it in its packet counts, too.
    _unfinished = 0
    _body = 0
    _is_over = False  # nothing more is taken from this client

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self.url, self.headers = b"", []
        self.since = monotonic()
        self.peers.add(self, self.loop)
        if self.peers.is_full():
            self.peers.count("refused_for_lack_of_place")
            transport.abort()
        elif self.peers.is_crowded():
            self.app = health_only(self.app)

    def connection_lost(self, exc: Exception | None) -> None:
        self.peers.open.discard(self)
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        super().pause_writing()
        self.since = monotonic()
        if self.transport.get_write_buffer_size() > LARGE_BYTES:
            self.peers.bound_buffers()

    def data_received(self, data: bytes) -> None:
        if self._is_over:
            self._throw_away(len(data))
            return
        self._unfinished += len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self.cycle.keep_alive = False  # answered as if it had not asked for another protocol
            self._is_over = True
        except httptools.HttpParserError as error:
            cause = error.__context__
            self._refuse(cause.status if isinstance(cause, RequestRefused) else 400)
        else:
            cycle = self.cycle
            if cycle is None or cycle.scope is not self.scope:
                self._unfinished = max(self._unfinished, len(data))
            elif not cycle.more_body:
                self._unfinished = 0
                return
            if self._unfinished > MAX_HEAD_BYTES or len(self.headers) > MAX_HEADERS:
                self._refuse(414 if len(self.url) > MAX_URL_BYTES else 431)

    def on_headers_complete(self) -> None:
        if self._unfinished > MAX_URL_BYTES or len(self.headers) > MAX_HEADERS:
            self._check_head()
        if len(self.pipeline) >= MAX_PIPELINED:
            raise RequestRefused(400)
        super().on_headers_complete()
        if self.peers.is_ending:
            self.cycle.keep_alive = False
        self.headers = []  # trailers end up here, and nobody looks at them
        self._unfinished = self._body = 0

    def on_body(self, body: bytes) -> None:
        super().on_body(body)
        self._unfinished = 0
        self._body += len(body)
        if self._body > MAX_BODY_BYTES:
            raise RequestRefused(413)

    def on_response_complete(self) -> None:
        """As uvicorn's, but for its timer: `peers` look after connections that are idle."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())

    def look(self, now: float) -> None:
        """End the connection if its client has been at one thing for too long."""
        owes, buffered = self.owes(), self.transport.get_write_buffer_size()
        if (owes, buffered) != self._seen or self.scope is not self._seen_scope:
            self._seen, self._seen_scope, self.since = (owes, buffered), self.scope, now
        elif now - self.since > self.patience[Owes.READING if buffered else owes]:
            self._time_out(owes)

    def end_after_answer(self) -> None:
        """End the connection with the answer that is being made, if one is."""
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.keep_alive = False

    def owes(self) -> Owes:
        """Return what the client has to do next."""
        cycle = self.cycle
        is_answered = cycle is None or cycle.response_complete or cycle.disconnected
        if self._is_over:
            return Owes.LEAVING if is_answered else Owes.NOTHING
        if self.scope is None:
            return Owes.FIRST_REQUEST
        if cycle is None or cycle.scope is not self.scope:
            return Owes.HEAD
        if cycle.more_body:
            return Owes.BODY
        return Owes.REQUEST if is_answered else Owes.NOTHING

    def waits_for_client(self) -> bool:
        """Return whether nothing happens before the client sends something."""
        return self.owes() != Owes.NOTHING

    def _time_out(self, owes: Owes) -> None:
        """Say so with 408 if the client has begun to ask: browsers connect ahead of a need."""
        self.peers.count("timed_out")
        if owes in (Owes.HEAD, Owes.BODY) and not self.transport.is_closing():
            self._refuse(408)
        else:
            self.transport.abort()

    def _refuse(self, status: int) -> None:
        """Answer with an error where that can still be done, and take nothing more."""
        self.peers.count(f"refused_{status}")
        cycle, is_in_body = self.cycle, self.owes() == Owes.BODY
        self._is_over = True
        if cycle is not None and not cycle.response_complete:
            if not is_in_body:  # requests before this one are answered, then it ends
                cycle.keep_alive = False
                return
            cycle.disconnected = True
            cycle.message_event.set()
            if cycle.response_started or self.pipeline:
                self.transport.abort()
                return
        elif is_in_body:  # it has its answer
            self.transport.write_eof()
            return
        self.transport.write(ANSWERS[status])
        self.transport.write_eof()

    def _throw_away(self, size: int) -> None:
        self._body += size
        if self._body > MAX_BODY_BYTES:
            self.transport.abort()

    def _check_head(self) -> None:
        if len(self.url) > MAX_URL_BYTES:
            raise RequestRefused(414)
        fields = sum(len(name) + len(value) for name, value in self.headers)
        if len(self.url) + fields > MAX_HEAD_BYTES or len(self.headers) > MAX_HEADERS:
            raise RequestRefused(431)


def health_only(app: ASGIApp) -> ASGIApp:
    """Return an application that answers health checks, and tells everybody else to come back."""
    retry = {"retry-after": "2", "connection": "close"}
    message = "There are too many connections. Try again in a moment."
    busy = error_response(503, "busy", message, **HEADERS, **retry)

    async def crowded(scope: Scope, receive: Receive, send: Send) -> None:
        await (app if scope["path"] in HEALTH else busy)(scope, receive, send)

    return crowded
