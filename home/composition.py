"""The application, made of what the apps bring."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import cache, partial
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import Lifespan

from audit.apps import AppRegistry, WrongApp, refuse_twice
from audit.jobs import Job, JobStatus, Supervisor
from home.accounts.people import groups_with
from home.backoffice.mounting import BackOffice
from home.config.settings import ROOT, Settings
from home.database.engine import Engine
from home.monitoring.health import SharedReport, health_routes
from home.monitoring.tracing import TraceRequests, Tracing, tracing_of
from home.services import Services
from home.web.error_responses import ErrorMiddleware, http_error
from home.web.openapi import ERRORS, Error, Operation, Problem, api_routes, openapi_routes
from home.web.pages import Page, navigation
from home.web.read_your_writes import RememberWrites
from home.web.rendering import templates_of
from home.web.request_context import RequestContext
from home.web.request_filter import RequestFilter

STATIC = ROOT / "home" / "pages" / "static"
# What is there besides pages and operations.
OURS = ("/admin", "/static", "/health", "/health/live", "/metrics", "/favicon.ico", "/api/health",
        "/api/docs", "/api/openapi.json")  # fmt: skip


def create_app(settings: Settings, db: Engine, registry: AppRegistry) -> Starlette:
    """Compose the application. Nothing here needs the database to be there.

    Raises:
        WrongApp: what an app brings does not fit; the message names the app.
        TracingUnusable: the environment asks for tracing that cannot be had.
    """
    tracing = tracing_of(db)
    services = Services(db, settings)
    pages = registry.all("pages", services)
    operations = registry.all("operations", services)
    tasks = [*registry.all("jobs", services), *message_jobs(services, registry)]
    _check(operations, pages)
    if settings.workers > 1:
        from home.monitoring import gauges

        tasks.append(("home", gauges.job(db, lambda: jobs)))
    refuse_twice([(name, f"job {job.name}") for name, job in tasks])
    supervisor = Supervisor(job for _, job in tasks)
    jobs = [*db.jobs.statuses, *supervisor.statuses]
    app = Starlette(
        routes=[
            *health_routes(db, jobs),
            *_routes(
                [each for _, each in operations],
                [each for _, each in pages],
                has_tokens=settings.api_tokens,
            ),
            Route("/metrics", partial(_metrics, db, jobs)),
            Mount("/static", StaticFiles(directory=STATIC)),
            Route("/favicon.ico", _favicon),
            Mount("/admin", BackOffice(services, registry, [page for _, page in pages])),
        ],
        middleware=_middleware(settings, db, registry, tracing),
        exception_handlers={HTTPException: http_error},
        lifespan=_lifespan(services, registry, supervisor, tracing),
    )
    app.state.services, app.state.jobs = services, jobs
    app.state.words = registry.words()
    app.state.navigation = partial(navigation, [page for _, page in pages])
    app.state.panels = lambda: [panel for _, panel in registry.all("panels", services)]
    app.state.erasers = lambda: [each for _, each in registry.all("erasers", services)]
    app.state.groups = cache(lambda: groups_with(g for _, g in registry.all("groups", services)))
    app.state.templates = cache(partial(templates_of, registry.brought))
    return app


def message_jobs(services: Services, registry: AppRegistry) -> list[tuple[str, Job]]:
    """Return the jobs of mail and webhooks, where there are any."""
    if services.settings.smtp_url is None and not services.settings.webhook_url:
        return []
    from home.outbox import delivery, notices

    looks = [look for _, look in registry.all("notices", services)]
    return [("home", each) for each in (*delivery.jobs(services), notices.job(services, looks))]


def _check(operations: list[tuple[str, Operation]], pages: list[tuple[str, Page]]) -> None:
    """Refuse what would fail at the first request, or hide something."""
    models: dict[str, tuple[str, Any]] = {
        model.__name__: ("home", model) for model in (Error, Problem)
    }
    for name, operation in operations:
        for status in operation.errors:
            if status not in ERRORS:
                raise WrongApp(f"App {name}: {operation.path} has an unknown status, {status}.")
        for model in filter(None, (operation.body, operation.answer)):
            other, known = models.setdefault(model.__name__, (name, model))
            if known is not model:
                raise WrongApp(
                    f"App {name}: there is another model {model.__name__}, in app {other};"
                    " the description of the API needs a name for each."
                )
    routes = [(name, each.method, each.path) for name, each in operations]
    routes += [(name, method, page.path) for name, page in pages for method in page.methods]
    for name, _, path in routes:
        if path.rstrip("/") in OURS:
            raise WrongApp(f"App {name}: {path} is taken: choose another path.")
    refuse_twice([(name, f"{method} {path}") for name, method, path in routes])


def _routes(
    operations: Sequence[Operation], pages: Sequence[Page], has_tokens: bool
) -> list[BaseRoute]:
    return [
        *api_routes(operations),
        *openapi_routes(operations, has_tokens),
        *(page.route() for page in pages),
    ]


def _middleware(
    settings: Settings, db: Engine, registry: AppRegistry, tracing: Tracing | None
) -> list[Middleware]:
    production = settings.environment == "production"
    return [
        Middleware(
            RequestContext,
            trusted_proxies=settings.trusted_proxies,
            production=production,
            direct={"/api/health": SharedReport(db, production)},
        ),
        *([Middleware(TraceRequests, tracer=tracing.tracer)] if tracing else []),
        Middleware(
            RequestFilter,
            allowed_networks=settings.allowed_networks,
            allowed_hosts=settings.allowed_hosts,
        ),
        *([Middleware(RememberWrites, db=db)] if db.replica else []),
        Middleware(ErrorMiddleware, sentences=registry.sentences()),
    ]


def _lifespan(
    services: Services, registry: AppRegistry, supervisor: Supervisor, tracing: Tracing | None
) -> Lifespan[Starlette]:
    """Start what starts before the first request and ends after the last one."""

    @asynccontextmanager
    async def alive(app: Starlette) -> AsyncIterator[None]:
        db = services.db
        if db.embedded is not None:
            await asyncio.to_thread(db.embedded.start)
        if tracing is not None:
            tracing.start()
        await db.start_connection_pool()
        try:
            async with AsyncExitStack() as stack:
                for _, manager in registry.all("lifespan", services):
                    await stack.enter_async_context(manager)
                supervisor.start()
                stack.push_async_callback(supervisor.close)
                yield
        finally:
            await db.close_connection_pool()
            if tracing is not None:
                await tracing.close()

    return alive


async def _metrics(db: Engine, jobs: Sequence[JobStatus], request: Request) -> Response:
    """Answer with figures for Prometheus, whose library is loaded for the first scrape."""
    from home.monitoring.metrics import metrics

    return await metrics(request, db, jobs)


async def _favicon(request: Request) -> Response:
    return FileResponse(STATIC / "favicon.svg")
