"""OpenTelemetry, for who sets its variables: spans of requests, statements, hashes and sync runs.

Until then its library is not imported, and nothing here is on the way of a request. Spans hold
names, templates and SQL without values: no paths, queries, addresses or people.
"""

from __future__ import annotations

import asyncio
import importlib.util
import logging
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from starlette.routing import Mount
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from audit import tracing
from audit.errors import GroundworkError
from audit.log import Logger
from home.database.connection import ObservedConnection
from home.database.statements import without_values
from home.web.request_context import HEALTH, STORABLE

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
    from opentelemetry.trace import Span, Tracer

    from home.database.engine import Engine

log = Logger("groundwork.tracing")

INSTALL = "pip install opentelemetry-sdk opentelemetry-exporter-otlp-proto-http"
CLOSE_SECONDS = 2.0
ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
PROTOCOLS = ("OTEL_EXPORTER_OTLP_PROTOCOL", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL")
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class TracingUnusable(GroundworkError):
    """Tracing is set up in a way that cannot work; the message says what to do."""


def is_wanted(given: Mapping[str, str]) -> bool:
    """Return whether the environment asks for traces.

    Raises:
        TracingUnusable: in a way that we have not.
    """
    exporter = given.get("OTEL_TRACES_EXPORTER", "").strip().lower()
    asks = exporter or any(given.get(name) for name in ENDPOINTS)
    is_off = given.get("OTEL_SDK_DISABLED", "").strip().lower() == "true" or exporter == "none"
    if not asks or is_off:
        return False
    if exporter not in ("", "otlp"):
        raise TracingUnusable("OTEL_TRACES_EXPORTER: must be otlp, or none.")
    for name in PROTOCOLS:
        if given.get(name, "http/protobuf") not in ("", "http/protobuf"):
            raise TracingUnusable(f"{name}: must be http/protobuf.")
    return True


def tracing_of(db: Engine) -> Tracing | None:
    """Return the tracing that the environment asks for, if any.

    Raises:
        TracingUnusable: it cannot be had.
    """
    if not is_wanted(os.environ):
        return None
    if importlib.util.find_spec("opentelemetry") is None:
        names = ("OTEL_TRACES_EXPORTER", *ENDPOINTS)
        named = next(name for name in names if os.environ.get(name))
        raise TracingUnusable(f"{named} is set, which needs the extra `otel`: {INSTALL}")
    return Tracing(db)


class Tracing:
    """Spans of a process, from its start to its end.

    Args:
        exporter: takes the spans, instead of OTLP over HTTP.
    """

    def __init__(self, db: Engine, exporter: SpanExporter | None = None) -> None:
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)  # we say it, and less often
        try:  # these read the environment
            resource = Resource.create(_named())
            self.provider = TracerProvider(resource=resource, shutdown_on_exit=False)
            self.provider.add_span_processor(BatchSpanProcessor(exporter or _otlp()))
        except ValueError as error:
            raise TracingUnusable(f"A variable OTEL_... cannot be used: {error}") from None
        self.tracer = self.provider.get_tracer("groundwork")
        self.db = db

    def start(self) -> None:
        """Begin to take spans."""
        self.db.connection_class = _traced(self.tracer)
        tracing.listen(self._span)
        log.info("tracing")

    @contextmanager
    def _span(self, name: str, attributes: dict[str, str | int]) -> Iterator[tracing.Note]:
        with _running(self.tracer, name, attributes) as span:
            yield lambda **more: span.set_attributes(more)

    async def close(self) -> None:
        """Send what is left, for two seconds at most: a collector that hangs holds up no exit."""
        tracing.listen(None)
        self.db.connection_class = ObservedConnection
        loop, is_done = asyncio.get_running_loop(), asyncio.Event()

        def shut_down() -> None:
            self.provider.shutdown()
            with suppress(RuntimeError):  # nobody waits any more
                loop.call_soon_threadsafe(is_done.set)

        threading.Thread(target=shut_down, daemon=True).start()
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_SECONDS):
                await is_done.wait()


def _named() -> dict[str, str]:
    is_named = "OTEL_SERVICE_NAME" in os.environ or "service.name" in os.environ.get(
        "OTEL_RESOURCE_ATTRIBUTES", ""
    )
    return {} if is_named else {"service.name": "groundwork"}


def _otlp() -> SpanExporter:
    import requests
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

    class Session(requests.Session):
        """Remembers how the last request ended."""

        outcome = "not sent"

        def request(self, *args: Any, **options: Any) -> requests.Response:
            try:
                answer = super().request(*args, **options)
            except Exception as error:
                self.outcome = type(error).__name__
                raise
            self.outcome = f"HTTP {answer.status_code}"
            return answer

    class Quiet(SpanExporter):
        """Says that spans are lost the first, second, fourth, eighth ... time in a row."""

        def __init__(self) -> None:
            self.session = Session()
            self.inner = OTLPSpanExporter(session=self.session)
            self.failures = 0

        def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
            result = self.inner.export(spans)
            if result is SpanExportResult.SUCCESS:
                if self.failures:
                    log.info("traces_are_sent_again", failures=self.failures)
                self.failures = 0
                return result
            self.failures += 1
            if self.failures & (self.failures - 1) == 0:
                log.warning(
                    "traces_not_sent",
                    reason=self.session.outcome,
                    spans=len(spans),
                    in_a_row=self.failures,
                )
            return result

        def shutdown(self) -> None:
            self.inner.shutdown()

    return Quiet()


@contextmanager
def _running(
    tracer: Tracer,
    name: str,
    attributes: Mapping[str, str | int],
    context: Context | None = None,
    kind: str = "INTERNAL",
) -> Iterator[Span]:
    """Have a span around a block; of an error its kind is kept, not its message."""
    from opentelemetry.trace import SpanKind, Status, StatusCode, use_span

    span = tracer.start_span(name, context, SpanKind[kind], attributes)
    try:
        with use_span(span, record_exception=False, set_status_on_exception=False):
            yield span
    except BaseException as error:
        span.set_attribute("error.type", type(error).__name__)
        span.set_status(Status(StatusCode.ERROR))
        raise
    finally:
        span.end()


def _traced(tracer: Tracer) -> type[ObservedConnection]:
    from opentelemetry.trace import get_current_span

    class TracedConnection(ObservedConnection):
        """A connection whose statements are spans, where they are a part of something."""

        async def _observe(self, run: Any, sql: str, *args: Any, **options: Any) -> Any:
            if not get_current_span().is_recording():
                return await super()._observe(run, sql, *args, **options)
            name, text = without_values(sql)
            attributes = {"db.system.name": "postgresql", "db.operation.name": name}
            if text:
                attributes["db.query.text"] = text
            with _running(tracer, name, attributes, kind="CLIENT"):
                return await super()._observe(run, sql, *args, **options)

    return TracedConnection


class TraceRequests:
    """Middleware: each request is a span, under the one that its `traceparent` names."""

    def __init__(self, app: ASGIApp, tracer: Tracer) -> None:
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self.app = app
        self.tracer = tracer
        self.propagator = TraceContextTextMapPropagator()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in HEALTH or scope["path"].startswith(STORABLE):
            await self.app(scope, receive, send)
            return
        given = [value for name, value in scope["headers"] if name == b"traceparent"]
        carrier = {"traceparent": given[0].decode("latin-1")} if len(given) == 1 else {}
        method = scope["method"] if scope["method"] in METHODS else "_OTHER"
        attributes = {"http.request.method": method, "url.scheme": scope["scheme"]}
        with _running(
            self.tracer, method, attributes, self.propagator.extract(carrier), "SERVER"
        ) as span:

            async def with_status(message: Message) -> None:
                if message["type"] == "http.response.start":
                    _note_answer(span, message["status"])
                await send(message)

            try:
                await self.app(scope, receive, with_status)
            finally:
                if (template := template_of(scope)) is not None:
                    span.set_attribute("http.route", template)
                    span.update_name(f"{method} {template}")


def _note_answer(span: Span, status: int) -> None:
    from opentelemetry.trace import Status, StatusCode

    span.set_attribute("http.response.status_code", status)
    if status >= 500:
        span.set_status(Status(StatusCode.ERROR))


def template_of(scope: Scope) -> str | None:
    """Return the path as the application has it, with names in place of values."""
    route = scope.get("route")
    root: str = scope.get("root_path", "")
    if isinstance(route, Mount):
        return root or None
    path = getattr(route, "path", None)
    return None if path is None else root + path
