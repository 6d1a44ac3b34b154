"""A sync run as a span, over the statements of its source."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from home.database.engine import Engine
from home.monitoring import tracing
from sync_history.sources import Function, Run
from tests.sync_history.conftest import run_of

pytestmark = [pytest.mark.any_version, pytest.mark.direct]
CANARY = "canary-5yn4"


async def test_a_run_is_a_span_over_its_statements(
    db: Engine, registered: Callable[[Function], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def errand(run: Run) -> None:
        await db.fetch("SELECT 'errand', $1::text", CANARY)
        run.failed(CANARY, CANARY)

    registered(errand)
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "otlp")
    exporter = InMemorySpanExporter()
    monkeypatch.setattr(tracing, "_otlp", lambda: exporter)
    running = tracing.tracing_of(db)
    assert running is not None
    running.start()
    db.expire_connections()
    try:
        done = await run_of("errand")
    finally:
        await running.close()
    spans = exporter.get_finished_spans()
    [run] = [each for each in spans if each.name == "sync run"]
    attributes = {"source": "errand", "run_id": done.id, "status": done.status}
    assert dict(run.attributes or {}) == attributes
    [statement] = [
        each
        for each in spans
        if "errand" not in each.to_json()
        and each is not run
        and "SELECT ?, $1::text" in each.to_json()
    ]
    assert run.context
    assert statement.parent
    assert statement.parent.span_id == run.context.span_id
    assert not any(CANARY in each.to_json() for each in spans)
