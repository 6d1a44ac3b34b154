"""The start of the application, as a story: settings, logs, apps, routes, serve.

`python main.py` serves; any other ASGI server finds `app` here, as in `uvicorn main:app`.
"""

from __future__ import annotations

import gc

if __name__ in ("__main__", "__mp_main__"):  # the latter is a worker's
    gc.disable()  # until serve(): modules leave nothing to collect, and load a tenth faster

import asyncio
import sys
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, NoReturn

import structlog

from audit.configured import bind_tables
from audit.errors import GroundworkError
from home.composition import create_app
from home.config.checks import settings_warnings
from home.config.logs import set_up_logs
from home.database.embedded import EmbeddedUnavailable
from piccolo_conf import APP_REGISTRY, DB, SETTINGS

if TYPE_CHECKING:
    from home.web.worker import Place

log = structlog.get_logger("groundwork")

set_up_logs(
    production=SETTINGS.environment == "production",
    level=SETTINGS.log_level,
    secrets=SETTINGS.secrets,
)
if __name__ != "__mp_main__":  # else the process manager has said so
    for database in filter(None, (SETTINGS.database, SETTINGS.replica)):
        if database.ignored:
            log.warning("database_url_parameters_ignored", names=database.ignored)
    for event, fields in settings_warnings(SETTINGS):
        log.warning(event, **fields)
# piccolo-api says so at each sign-in; whether cookies are Secure follows ENVIRONMENT.
warnings.filterwarnings("ignore", "If running sessions in production")
try:
    app = create_app(SETTINGS, DB, APP_REGISTRY)
except GroundworkError as error:
    sys.exit(str(error))
bind_tables(DB)


def serve() -> None:
    """Serve until SIGINT, SIGTERM or SIGHUP; requests in flight finish first."""
    from home.web.server import end_on_signals, serve_until_told

    stop_database = DB.embedded.stop if DB.embedded else None
    end_on_signals(stop_database)
    if DB.embedded is not None:
        try:
            DB.embedded.start()
        except EmbeddedUnavailable as error:
            sys.exit(str(error))
    address = f"http://{SETTINGS.listen_host}:{SETTINGS.listen_port}/"
    if SETTINGS.workers > 1:
        serve_with_workers(address, stop_database)
    log.info("serving", address=address)
    settle_memory()
    serve_until_told(app, SETTINGS.listen_host, SETTINGS.listen_port, stop_database)


def serve_with_workers(address: str, stop_database: Callable[[], None] | None) -> NoReturn:
    """Serve with several processes: SIGHUP replaces them one by one, the other signals end all."""
    from home.database.capacity import TooManyConnections, check_capacity
    from home.web import workers

    try:
        connections = asyncio.run(check_capacity(DB))
    except TooManyConnections as error:
        sys.exit(str(error))
    log.info("serving", address=address, workers=SETTINGS.workers, connections=connections)
    settle_memory()
    host, port = SETTINGS.listen_host, SETTINGS.listen_port
    workers.serve(work, host, port, SETTINGS.workers, stop_database)


def work(place: Place) -> None:
    """Serve as one of several workers."""
    from home.web.worker import serve_as_worker

    settle_memory()
    serve_as_worker(app, place)


def settle_memory() -> None:
    """Tune the collector: what was imported stays, and it need not look through it again and again;
    nor so often, since a request leaves next to nothing for it."""
    gc.freeze()
    gc.enable()
    gc.set_threshold(20_000, 20, 20)


if __name__ == "__main__":
    serve()
