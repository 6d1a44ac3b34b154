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

from audit import counts
from audit.jobs import JobStatus
from home.database.engine import Engine
from home.database.probe import Verdict
from home.web.request_context import security_headers

NO_STORE = {"cache-control": "no-store"}
PROXY_HEADERS = ("x-forwarded-for", "x-real-ip", "forwarded")


class SharedReport:
    """`/api/health`, as it is asked most often: rendered once for all callers that share a probe.

    It stands before the middlewares, hence it has the headers of every answer in it.
    """

    def __init__(self, db: Engine, production: bool) -> None:
        self.probe = db.probe
        self.headers = NO_STORE | security_headers(production)
        self._verdict: Verdict | None = None
        self._response = Response()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        verdict = await self.probe.verdict()
        if verdict is not self._verdict:
            self._response = JSONResponse(_report(verdict), headers=self.headers)
            self._verdict = verdict
        await self._response(scope, receive, send)


def _report(verdict: Verdict) -> dict[str, Any]:
    database: dict[str, Any] = {"connected": verdict.connected}
    if verdict.connected:
        database["latencyMs"] = verdict.latency_ms
    if verdict.error is not None:
        database["error"] = verdict.error
    status = "ok" if verdict.is_healthy else "degraded"
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

    async def report(request: Request) -> Response:
        full = _report(await db.probe.verdict())
        if "details" in request.query_params and may_see_details(request, db):
            full["database"] |= await db.probe.details()
            if counts.seats is not None and counts.seats.own is not None:
                full["worker"] = counts.seats.own + 1
            full["jobs"] = {status.job.name: _job(status) for status in jobs}
        return _json(full)

    async def ready(request: Request) -> Response:
        verdict = await db.probe.verdict()
        state = (verdict.error or "connected") if verdict.connected else "disconnected"
        status = "ok" if verdict.is_healthy else "degraded"
        body = {"status": status, "timestamp": _now(), "services": {"postgres": state}}
        return _json(body, 200 if verdict.is_healthy else 503)

    async def live(request: Request) -> Response:
        return _json({"status": "ok", "timestamp": _now()})

    return [
        Route("/api/health", report),
        Route("/health", ready),
        Route("/health/live", live),
    ]


def may_see_details(request: Request, db: Engine) -> bool:
    """Return whether the caller is in METRICS_NETWORKS, and no proxy.

    A proxy is known by TRUSTED_PROXIES, or by the header with which it says whom it speaks for: one
    that is neither named nor says anything cannot be told from a scraper on its host.
    """
    if request.client is None:
        return False
    if any(header in request.headers for header in PROXY_HEADERS):
        return False
    try:
        address = ip_address(request.client.host)
    except ValueError:
        return False
    if any(address in network for network in db.settings.trusted_proxies):
        return False
    return any(address in network for network in db.settings.metrics_networks)


def _json(content: dict[str, Any], status: int = 200) -> Response:
    return JSONResponse(content, status, headers=NO_STORE)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
