"""The start of the application, as a story: settings, logs, routes, pool, serve."""

from __future__ import annotations

import gc

if __name__ == "__main__":
    gc.disable()  # until serve(): modules leave nothing to collect, and load a tenth faster

import asyncio
import signal
import sys
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from functools import cache
from typing import Any

import structlog
import uvicorn
from piccolo_admin.endpoints import create_admin
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Lifespan, Receive, Scope, Send

from audit.admin import audit_tables
from audit.digests import SealKeys
from audit.errors import DatabaseUnavailable
from audit.forms import audit_forms
from audit.seals import seal_regularly
from home.accounts.authentication import purge_regularly
from home.accounts.second_factor import SecondFactor
from home.accounts.sessions import authenticate, client
from home.accounts.throttle import NoLimit
from home.api.accounts import Api
from home.backoffice.forms import home_forms
from home.backoffice.tables import home_tables
from home.config.logs import set_up_logs
from home.config.settings import ROOT, Settings
from home.database.embedded import EmbeddedUnavailable
from home.database.engine import Engine
from home.monitoring.health import Probe, SharedReport, health_routes
from home.pages.sign_in import Pages
from home.tables import Session, User
from home.web.cookies import AdminCookies
from home.web.error_responses import ErrorMiddleware, http_error
from home.web.openapi import api_routes, openapi_routes
from home.web.read_your_writes import RememberWrites, with_stale_lists
from home.web.request_context import RequestContext
from home.web.request_filter import Guard
from home.web.server import uvicorn_options
from sync_history import runner
from sync_history.admin import sync_forms, sync_tables
from sync_history.api import SyncApi
from sync_history.scheduler import schedule
from sync_history.sources import CannotLoad, load

FAVICON = ROOT / "home" / "pages" / "static" / "favicon.svg"

log = structlog.get_logger("groundwork")


def create_app(settings: Settings, db: Engine) -> Starlette:
    """Compose the application. Nothing here needs the database to be there."""
    load(settings.sources)
    probe = Probe(db)
    factor = SecondFactor(mfa_key(settings))
    api = Api(db, factor, settings.registration)
    operations = [*api.operations(), *SyncApi(api).operations()]

    return Starlette(
        routes=[
            *health_routes(probe),
            *api_routes(operations),
            *openapi_routes(operations),
            *Pages(factor, settings.registration).routes(),
            Route("/metrics", metrics_page(probe)),
            Route("/", first_page(db, probe)),
            Mount("/static", StaticFiles(directory=ROOT / "home" / "pages" / "static")),
            Route("/favicon.ico", lambda request: FileResponse(FAVICON)),
            Mount("/admin", lazy_admin(settings, db)),
        ],
        middleware=[
            Middleware(
                RequestContext,
                trusted_proxies=settings.trusted_proxies,
                production=settings.environment == "production",
                direct={"/api/health": SharedReport(probe)},
            ),
            Middleware(
                Guard,
                allowed_networks=settings.allowed_networks,
                allowed_hosts=settings.allowed_hosts,
            ),
            *([Middleware(RememberWrites, db=db)] if db.replica else []),
            Middleware(ErrorMiddleware),
        ],
        exception_handlers={HTTPException: http_error},
        lifespan=lifespan(settings, db, probe),
    )


def lifespan(settings: Settings, db: Engine, probe: Probe) -> Lifespan[Starlette]:
    """What starts before the first request and ends after the last one."""

    @asynccontextmanager
    async def alive(app: Starlette) -> AsyncIterator[None]:
        await db.start_connection_pool()
        jobs = [asyncio.create_task(job) for job in regular_jobs(settings)]
        try:
            yield
        finally:
            for job in jobs:
                job.cancel()
            await asyncio.gather(*jobs, return_exceptions=True)
            await runner.close()
            await probe.close()
            await db.close_connection_pool()

    return alive


def first_page(db: Engine, probe: Probe) -> Callable[[Request], Awaitable[Response]]:
    """The overview; its charts are loaded for the first who asks."""

    async def page(request: Request) -> Response:
        from home.pages.overview import overview
        from sync_history.panel import sync_panel

        return await overview(db, probe, request, more=[sync_panel])

    return page


def metrics_page(probe: Probe) -> Callable[[Request], Awaitable[Response]]:
    """Figures for Prometheus, whose library is loaded for the first scrape."""

    async def page(request: Request) -> Response:
        from home.monitoring.metrics import metrics

        return await metrics(request, probe)

    return page


def regular_jobs(settings: Settings) -> list[Coroutine[Any, Any, None]]:
    """What goes on beside the requests, in each process; the database decides who does it."""
    jobs = [purge_regularly()]
    if settings.audit_seal_interval:
        key = settings.audit_seal_key
        keys = SealKeys(key.get_secret_value() if key else None)
        jobs.append(seal_regularly(keys, settings.audit_seal_interval))
    if settings.sources:
        jobs.append(schedule(settings.sync_scheduler))
    return jobs


def mfa_key(settings: Settings) -> str | None:
    return settings.mfa_key.get_secret_value() if settings.mfa_key else None


def lazy_admin(settings: Settings, db: Engine) -> ASGIApp:
    """The back office, built for the first who asks for it: the server is up sooner.

    Who is not signed in meets our page, which says what is wrong; piccolo-admin's says «Problem
    logging in», whatever it is.
    """

    key = mfa_key(settings)

    async def build_and_call(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/admin/" and (elsewhere := await where_instead(db)):
            await RedirectResponse(elsewhere, 303)(scope, receive, send)
            return
        admin = build_admin(settings.environment == "production", key)
        await admin(scope, receive, send)

    return build_and_call


async def where_instead(db: Engine) -> str | None:
    """Where somebody goes who cannot use the back office."""
    token = client.get().token
    try:
        person = await authenticate(db, token) if token else None
    except DatabaseUnavailable:
        return None
    if person is None:
        return "/sign-in"
    return None if person.is_admin else "/"


@cache
def build_admin(production: bool, mfa_key: str | None) -> ASGIApp:
    """Piccolo's admin with all tables."""
    app: ASGIApp = create_admin(
        tables=with_stale_lists([*home_tables(), *audit_tables(), *sync_tables()]),
        forms=[*audit_forms(), *home_forms(), *sync_forms()],
        auth_table=User,
        session_table=Session,
        auto_include_related=False,
        rate_limit_provider=NoLimit(),  # home.accounts.throttle limits sign-ins
        mfa_providers=[SecondFactor(mfa_key).provider()],
        production=production,
        site_name="Groundwork",
        sidebar_links={"Overview": "/", "API": "/api/docs"},
    )
    return AdminCookies(app)


def serve() -> None:
    """Serve until SIGINT or SIGTERM; requests in flight finish first."""
    from piccolo_conf import DB, SETTINGS

    set_up_logs(
        production=SETTINGS.environment == "production",
        level=SETTINGS.log_level,
        secrets=SETTINGS.secrets,
    )
    for database in filter(None, (SETTINGS.database, SETTINGS.replica)):
        if database.ignored:
            log.warning("database_url_parameters_ignored", names=database.ignored)
    if DB.embedded is not None:
        try:
            DB.embedded.start()
        except EmbeddedUnavailable as error:
            sys.exit(str(error))
    # piccolo-api says so at each sign-in; whether cookies are Secure follows ENVIRONMENT.
    warnings.filterwarnings("ignore", "If running sessions in production")
    # uvicorn hands the signal on once it has shut down: leave by way of atexit, with success.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    log.info("serving", address=f"http://{SETTINGS.listen_host}:{SETTINGS.listen_port}/admin/")
    try:
        app = create_app(SETTINGS, DB)
    except CannotLoad as error:
        sys.exit(str(error))
    gc.freeze()  # what was imported stays: the collector need not look through it again and again
    gc.enable()
    gc.set_threshold(20_000, 20, 20)  # nor so often: a request leaves next to nothing for it
    uvicorn.run(
        app,
        host=SETTINGS.listen_host,
        port=SETTINGS.listen_port,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,  # RequestContext decides whose word counts
        timeout_graceful_shutdown=5,
        **uvicorn_options(),
    )


if __name__ == "__main__":
    serve()
