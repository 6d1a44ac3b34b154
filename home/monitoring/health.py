"""Health for people, load balancers and process supervisors."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from ipaddress import ip_address
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from audit.jobs import JobStatus
from home.database.engine import Engine
from home.database.probe import Verdict

PROXY_HEADERS = ("x-forwarded-for", "x-real-ip", "forwarded")


class Report:
    """`/api/health`: asked most often, so what callers share is made once, response included."""

    def __init__(self, db: Engine, jobs: Sequence[JobStatus]) -> None:
        self.db = db
        self.jobs = jobs

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        verdict = await self.db.probe.verdict()
        if scope["query_string"] and _wants_details(Request(scope), self.db):
            full = _report(verdict)
            full["database"] |= await self.db.probe.details()
            full["jobs"] = {status.job.name: _job(status) for status in self.jobs}
            response = _json(full)
        else:
            response = verdict.rendered = verdict.rendered or _json(_report(verdict))
        await response(scope, receive, send)


def _report(verdict: Verdict) -> dict[str, Any]:
    database: dict[str, Any] = {"connected": verdict.connected}
    if verdict.connected:
        database["latencyMs"] = verdict.latency_ms
    else:
        database["error"] = verdict.error
    status = "ok" if verdict.connected else "degraded"
    return {"status": status, "timestamp": _now(), "database": database}


def _job(status: JobStatus) -> dict[str, Any]:
    last = status.last_success_at
    return {
        "lastSuccessAt": last and last.isoformat(timespec="seconds"),
        "failuresInARow": status.failures_in_a_row,
        "late": status.is_late,
    }


def health_routes(db: Engine, jobs: Sequence[JobStatus]) -> list[Route]:
    """`/api/health` for people and monitors, `/health` and `/health/live` for load balancers."""

    async def ready(request: Request) -> Response:
        connected = (await db.probe.verdict()).connected
        services = {"postgres": "connected" if connected else "disconnected"}
        status = "ok" if connected else "degraded"
        body = {"status": status, "timestamp": _now(), "services": services}
        return _json(body, 200 if connected else 503)

    async def live(request: Request) -> Response:
        return _json({"status": "ok", "timestamp": _now()})

    return [
        Route("/api/health", Report(db, jobs), methods=["GET"]),
        Route("/health", ready),
        Route("/health/live", live),
    ]


def _wants_details(request: Request, db: Engine) -> bool:
    return "details" in request.query_params and may_see_details(request, db)


def may_see_details(request: Request, db: Engine) -> bool:
    """Callers in METRICS_NETWORKS, and not by way of a proxy."""
    if request.client is None:
        return False
    if any(header in request.headers for header in PROXY_HEADERS):
        return False
    try:
        address = ip_address(request.client.host)
    except ValueError:
        return False
    return any(address in network for network in db.settings.metrics_networks)


def _json(content: dict[str, Any], status: int = 200) -> Response:
    return JSONResponse(content, status, headers={"cache-control": "no-store"})


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
