"""The start of the application, as a story: settings, logs, apps, routes, serve.

`python main.py` serves; any other ASGI server finds `app` here, as in `uvicorn main:app`.
"""

from __future__ import annotations

import gc

if __name__ == "__main__":
    gc.disable()  # until serve(): modules leave nothing to collect, and load a tenth faster

import sys
import warnings

import structlog

from audit.configured import bind_tables
from audit.errors import GroundworkError
from home.composition import create_app
from home.config.checks import settings_warnings
from home.config.logs import set_up_logs
from home.database.embedded import EmbeddedUnavailable
from piccolo_conf import APP_REGISTRY, DB, SETTINGS

log = structlog.get_logger("groundwork")

set_up_logs(
    production=SETTINGS.environment == "production",
    level=SETTINGS.log_level,
    secrets=SETTINGS.secrets,
)
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
    log.info("serving", address=f"http://{SETTINGS.listen_host}:{SETTINGS.listen_port}/")
    gc.freeze()  # what was imported stays: the collector need not look through it again and again
    gc.enable()
    gc.set_threshold(20_000, 20, 20)  # nor so often: a request leaves next to nothing for it
    serve_until_told(app, SETTINGS.listen_host, SETTINGS.listen_port, stop_database)


if __name__ == "__main__":
    serve()
