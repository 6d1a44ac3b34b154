"""OpenTelemetry: what a trace holds and what it does not, and collectors that are away."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from structlog.testing import capture_logs

import piccolo_conf
from audit.tracing import span
from home.database.connection import ObservedConnection
from home.database.engine import Engine
from home.database.statements import without_values
from home.monitoring import tracing
from home.monitoring.tracing import TracingUnusable, is_wanted, tracing_of
from home.tables import User
from tests.conftest import PASSWORD, ROOT, browser, create_app, enter, share_back_office
from tests.postgres import free_port

pytestmark = [pytest.mark.any_version, pytest.mark.direct]
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
CANARY = "canary-7r4c3"


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> InMemorySpanExporter:
    """What an application sends that is made from now on."""
    exporter = InMemorySpanExporter()
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "otlp")
    monkeypatch.setattr(tracing, "_otlp", lambda: exporter)
    return exporter


@asynccontextmanager
async def serving() -> AsyncIterator[httpx.AsyncClient]:
    """A client of an application, whose end sends all spans."""
    app = create_app()
    share_back_office(app, "as configured")
    async with app.router.lifespan_context(app), browser(app) as client:
        yield client


def named(spans: InMemorySpanExporter, name: str) -> list[ReadableSpan]:
    return [each for each in spans.get_finished_spans() if each.name == name]


async def test_a_request_its_statements_and_its_hash_are_one_trace(
    member: User, spans: InMemorySpanExporter
) -> None:
    async with serving() as client:
        await enter(client, member.email)
        answer = await client.put(f"/api/me/preferences?q={CANARY}", json={"note": CANARY})
        assert answer.is_success
    [sign_in] = named(spans, "POST /api/sign-in")
    [change] = named(spans, "PUT /api/me/preferences")
    [hashing] = named(spans, "password hash")
    assert sign_in.context and change.context and hashing.parent  # noqa: PT018
    assert hashing.parent.span_id == sign_in.context.span_id
    assert sign_in.parent is None
    assert dict(change.attributes or {}) == {
        "http.request.method": "PUT",
        "http.route": "/api/me/preferences",
        "http.response.status_code": 200,
        "url.scheme": "http",
    }
    statements = [
        each
        for each in spans.get_finished_spans()
        if each.parent and each.parent.span_id == change.context.span_id
    ]
    texts = [str((each.attributes or {})["db.query.text"]) for each in statements]
    assert any("user_preferences" in text for text in texts), texts
    everything = [
        str((each.attributes or {}).get("db.query.text")) for each in spans.get_finished_spans()
    ]
    assert "BEGIN;SELECT set_config(?, ?, true)" in everything, "without who acts"
    assert {each.context.trace_id for each in statements if each.context} == {
        change.context.trace_id
    }
    said = "".join(each.to_json() for each in spans.get_finished_spans())
    for secret in (CANARY, member.email, PASSWORD, client.cookies["id"], "127.0.0.1"):
        assert secret not in said


async def test_a_template_stands_for_the_path_and_the_kind_of_an_error_for_its_message(
    member: User, spans: InMemorySpanExporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving() as client:
        await enter(client, member.email)
        await client.get(f"/people/{member.id}")
        await client.get(f"/{CANARY}")
        await client.get(f"/admin/api/tables/users/{member.id}/")
        await client.request(CANARY, "/")
        await client.get("/api/health")
        await client.get("/static/style.css")
    names = {
        each.name for each in spans.get_finished_spans() if "http.request.method" in each.to_json()
    }
    assert "GET /people/{id}" in {name.replace(":int", "") for name in names}, names
    assert "GET" in names
    assert "_OTHER" in {name.partition(" ")[0] for name in names}
    assert not any(CANARY in name or "health" in name or "static" in name for name in names)
    assert any(name.startswith("GET /admin") for name in names)
    assert str(member.id) not in "".join(names)


@pytest.mark.parametrize(
    ("given", "is_parent"),
    [
        (f"00-{TRACE}-{PARENT}-01", True),
        (f"00-{TRACE}-{PARENT}-01, 00-{TRACE}-{PARENT}-01", False),
        (f"00-{'0' * 32}-{PARENT}-01", False),
        (CANARY, False),
        ("x" * 5_000, False),
    ],
)
async def test_a_valid_traceparent_is_the_parent(
    url: str, spans: InMemorySpanExporter, given: str, is_parent: bool
) -> None:
    async with serving() as client:
        await client.get("/api/me", headers={"traceparent": given, "tracestate": CANARY})
    [found] = named(spans, "GET /api/me")
    assert found.context
    assert (f"{found.context.trace_id:032x}" == TRACE) is is_parent
    assert (found.parent is not None) is is_parent
    assert CANARY not in found.to_json()


async def test_statements_outside_of_anything_traced_are_no_spans(
    db: Engine, spans: InMemorySpanExporter
) -> None:
    running = tracing_of(db)
    assert running is not None
    running.start()
    try:
        db.expire_connections()
        await db.fetch("SELECT 1")
        with pytest.raises(ZeroDivisionError), span("sync run", source="a") as note:
            await db.fetch("SELECT 2")
            note(status="failed")
            raise ZeroDivisionError(CANARY)
    finally:
        await running.close()
    statement, run = spans.get_finished_spans()
    assert (statement.name, run.name) == ("SELECT", "sync run")
    attributes = {"source": "a", "status": "failed", "error.type": "ZeroDivisionError"}
    assert dict(run.attributes or {}) == attributes
    assert CANARY not in run.to_json()
    assert db.connection_class is ObservedConnection


@pytest.mark.parametrize(
    ("sql", "operation", "text"),
    [
        ("BEGIN;SELECT f(E'a\\'b''c', true)", "BEGIN", "BEGIN;SELECT f(?, true)"),
        (
            "-- don't\nSELECT 'a''b', \"x\", $1, 42, x2 /* it's */ FROM t WHERE a=4.5",
            "SELECT",
            'SELECT ?, "x", $1, ?, x2 FROM t WHERE a=?',
        ),
        ("DO $x$ BEGIN 'a' END $x$", "DO", "DO ?"),
        ("SELECT 'never closed", "SELECT", "SELECT "),
        ("(WITH x AS (SELECT 1) TABLE x)", "WITH", "(WITH x AS (SELECT ?) TABLE x)"),
        ("audit_logs", "COPY", "audit_logs"),
        (f"SELECT '{'x' * 9_000}'", "SELECT", ""),
    ],
)
def test_a_statement_is_shown_without_values(sql: str, operation: str, text: str) -> None:
    assert without_values(sql) == (operation, text)


class Collector(ThreadingHTTPServer):
    """Takes traces by OTLP over HTTP, and answers, unless it hangs."""

    daemon_threads = True

    def __init__(self, hangs: bool = False) -> None:
        self.requests: list[ExportTraceServiceRequest] = []
        self.may_answer = threading.Event()
        if not hangs:
            self.may_answer.set()
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                collector.requests.append(ExportTraceServiceRequest.FromString(body))
                collector.may_answer.wait(30)
                self.send_response(200)
                self.end_headers()

            def log_message(self, *args: Any) -> None: ...

        super().__init__(("127.0.0.1", 0), Handler)

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


@pytest.fixture
def collector(request: pytest.FixtureRequest) -> Iterator[Collector]:
    server = Collector(hangs=getattr(request, "param", False))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.may_answer.set()
    server.shutdown()
    thread.join()
    server.server_close()


async def test_spans_arrive_by_otlp_when_the_application_ends(
    url: str, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.address)
    async with serving() as client:
        await client.get("/api/me")
    resources = [each for request in collector.requests for each in request.resource_spans]
    names = {span.name for each in resources for scope in each.scope_spans for span in scope.spans}
    assert "GET /api/me" in names
    [service] = [
        a.value.string_value for a in resources[0].resource.attributes if a.key == "service.name"
    ]
    assert service == "groundwork"


@pytest.mark.parametrize("collector", [True], indirect=True, ids=["hangs"])
@pytest.mark.parametrize("how", ["hangs", "down"])
async def test_a_collector_that_is_away_costs_no_request_anything(
    url: str, collector: Collector, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    address = collector.address if how == "hangs" else f"http://127.0.0.1:{free_port()}"
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", address)
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "20")
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "16")
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "8")
    with capture_logs() as logs:
        async with asyncio.timeout(10):
            async with serving() as client:
                for _ in range(100):
                    assert (await client.get("/api/me")).status_code == 401
    assert len([entry for entry in logs if entry["event"] == "traces_not_sent"]) <= 2


async def test_why_spans_are_not_sent_is_said(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "20")
    with capture_logs() as logs:
        async with serving() as client, asyncio.timeout(20):
            await client.get("/api/me")
            while not (told := [each for each in logs if each["event"] == "traces_not_sent"]):
                await asyncio.sleep(0.05)
    assert told[0]["reason"] == "ConnectionError"


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ({}, False),
        ({"OTEL_SERVICE_NAME": "x"}, False),
        ({"OTEL_TRACES_EXPORTER": "none"}, False),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, True),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x"}, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://x"}, True),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x", "OTEL_TRACES_EXPORTER": "none"}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x", "OTEL_SDK_DISABLED": "TRUE"}, False),
    ],
)
def test_when_it_is_on(given: dict[str, str], wanted: bool) -> None:
    assert is_wanted(given) is wanted


@pytest.mark.parametrize(
    "given",
    [
        {"OTEL_TRACES_EXPORTER": "zipkin"},
        {"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
    ],
)
def test_what_we_have_not_is_refused_by_name(given: dict[str, str]) -> None:
    with pytest.raises(TracingUnusable, match=list(given)[-1]):
        is_wanted(given)


def test_a_variable_that_makes_no_sense_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "-1")
    with pytest.raises(TracingUnusable, match="max_queue_size"):
        create_app()


def test_without_the_extra_the_start_is_refused_with_the_command(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    with pytest.raises(TracingUnusable) as caught:
        create_app()
    assert str(caught.value).startswith("OTEL_EXPORTER_OTLP_ENDPOINT is set")
    assert "pip install opentelemetry-sdk" in str(caught.value)


OFF = """
import json, sys, main
names = [each.cls.__name__ for each in main.app.user_middleware]
loaded = [name for name in sys.modules if name.startswith("opentelemetry")]
print(json.dumps([names, loaded]))
"""


def test_off_nothing_is_imported_and_nothing_is_in_the_way() -> None:
    done = subprocess.run(
        [sys.executable, "-c", OFF], cwd=ROOT, capture_output=True, text=True, check=True
    )
    names, loaded = json.loads(done.stdout.splitlines()[-1])
    assert "TraceRequests" not in names
    assert loaded == []
    assert piccolo_conf.DB.connection_class is ObservedConnection
