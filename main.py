"""The start of the application, as a story: settings, logs, apps, routes, serve.

`python main.py` serves; any other ASGI server finds `app` here, as in `uvicorn main:app`.
"""

from __future__ import annotations

import gc

if __name__ == "__main__":
    gc.disable()  # until serve(): modules leave nothing to collect, and load a tenth faster

import signal
import sys
import warnings

import structlog

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


def serve() -> None:
    """Serve until SIGINT or SIGTERM; requests in flight finish first."""
    import uvicorn

    from home.web.server import uvicorn_options

    if DB.embedded is not None:
        try:
            DB.embedded.start()
        except EmbeddedUnavailable as error:
            sys.exit(str(error))
    # uvicorn hands the signal on once it has shut down: leave by way of atexit, with success.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    log.info("serving", address=f"http://{SETTINGS.listen_host}:{SETTINGS.listen_port}/")
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
