"""The servers that are measured: ours and the peers, each as its own users would start it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from benchmarks import install
from benchmarks.process import Program
from benchmarks.tools import PEERS, ROOT, find

POOL_SIZE = 20

# What main.py does as well.
UVICORN = (
    sys.executable, "-m", "uvicorn", "app:app", "--host", "127.0.0.1", "--port", "$PORT",
    "--loop", "uvloop", "--http", "httptools", "--no-access-log", "--no-server-header",
    "--log-level", "warning",
)  # fmt: skip


def ours(database_url: str) -> Program:
    variables = {
        "ENVIRONMENT": "production",
        "LISTEN_HOST": "127.0.0.1",
        "LOG_LEVEL": "warning",
        "DATABASE_URL": database_url,
        "DB_POOL_MAX": str(POOL_SIZE),
    }
    return Program("Groundwork", (sys.executable, "main.py"), ROOT, variables)


def with_uvicorn(name: str, folder: str, database_url: str = "") -> Program:
    return Program(name, UVICORN, PEERS / folder, {"DATABASE_URL": database_url})


def express(database_url: str, say: Callable[[str], None]) -> Program:
    folder = install.node_peer("express", say)
    variables = {"DATABASE_URL": database_url, "NODE_ENV": "production"}
    return Program("Express 5 + pg", (find("node"), "server.js"), folder, variables)


def django(database_url: str, say: Callable[[str], None]) -> Program:
    """One process, a thread for each connection of the pool."""
    gunicorn = (
        str(install.django(say) / "python"), "-m", "gunicorn", "project.wsgi",
        "--worker-class", "gthread", "--workers", "1", "--threads", str(POOL_SIZE),
        "--log-level", "warning",
    )  # fmt: skip
    # gunicorn takes its port from PORT.
    return Program("Django 5.2", gunicorn, PEERS / "django", django_variables(database_url))


def django_variables(database_url: str) -> dict[str, str]:
    return {"DATABASE_URL": database_url, "SECRET_KEY": "only for this benchmark"}


def bare() -> Program:
    return Program("bare Starlette", (sys.executable, "app.py"), PEERS / "bare")


def piccolo() -> str:
    """The command line of Piccolo in this environment."""
    return str(Path(sys.executable).with_name("piccolo"))
