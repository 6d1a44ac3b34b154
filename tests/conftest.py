"""Real PostgreSQL in every test: the real migrations build a template once, each test clones it.

Tests run on the embedded PostgreSQL; those that need a session of their own on an installed one as
well. With TEST_THROUGH=pgbouncer (make pooler) the others run on an installed one, by way of
PgBouncer in transaction mode: so all of them run on two versions.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Hashable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import asyncpg
import httpx
import pytest
import structlog
from argon2 import PasswordHasher
from starlette.applications import Starlette
from starlette.types import ASGIApp

import piccolo_conf_test as piccolo_conf  # before anything imports piccolo_conf
from home import composition
from home.accounts import passwords
from home.backoffice.mounting import BackOffice
from home.config.settings import ROOT, Settings
from home.database.embedded import EmbeddedServer
from home.database.engine import Engine
from home.database.migrations import migrate
from home.tables import User
from piccolo_conf_test import POOLED
from tests import pgbouncer
from tests.pgbouncer import PgBouncer, find_pgbouncer
from tests.postgres import INSTALL, Server, data_folder, find_binaries

# Tracebacks as Python prints them: rich would draw all local variables, for seconds each.
structlog.configure(
    processors=[
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="%H:%M:%S"),
        structlog.dev.ConsoleRenderer(
            colors=False, exception_formatter=structlog.dev.plain_traceback
        ),
    ]
)

__all__ = ["ROOT"]

# As quick as argon2 allows; the processes that tests start hash as everybody does.
HASHER_OF_EVERYBODY = passwords.HASHER
passwords.HASHER = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
Done = subprocess.CompletedProcess[str]
PASSWORD = "correct horse battery"
_numbers = itertools.count()


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Have a temporary folder of our own: another session of the same user closes the shared one
    to everybody else, and the embedded PostgreSQL runs as somebody else.

    Signals are as a terminal leaves them, also under `nohup` or behind a shell's `&`, since the
    processes that tests start inherit what is ignored.
    """
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if not config.option.basetemp:
        config.option.basetemp = tempfile.mkdtemp(prefix="groundwork-pytest-")
        config.add_cleanup(lambda: shutil.rmtree(config.option.basetemp, ignore_errors=True))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave out what another run covers: the embedded PostgreSQL has all tests, an installed one
    those that do not run through a pooler, and the pooler, on the installed one, the others."""
    items[:] = [item for item in items if _belongs_here(item)]


def _belongs_here(item: pytest.Item) -> bool:
    is_direct = item.get_closest_marker("direct") is not None
    if POOLED:
        return not is_direct and "place" in getattr(item, "fixturenames", ())
    if "[installed" in item.name:
        return is_direct and item.get_closest_marker("any_version") is None
    return True


def missing(what: str, command: str) -> None:
    """Skip visibly on a bare machine; in CI a missing part is a failure."""
    message = f"{what} is not installed; to run this: {command}"
    if os.environ.get("CI") == "true":
        pytest.fail(message)
    pytest.skip(message)


class Place(NamedTuple):
    """The URL of a running server's maintenance database: direct, and as tests reach it."""

    direct: str
    url: str


@pytest.fixture(scope="session", params=["pgbouncer"] if POOLED else ["embedded", "installed"])
def place(
    request: pytest.FixtureRequest,
) -> Iterator[Place]:
    if request.param == "embedded":
        folder = data_folder()
        embedded = EmbeddedServer(folder)
        url = f"postgresql://postgres@/postgres?host={embedded.start()['host']}"
        yield Place(url, url)
        embedded.stop()
        shutil.rmtree(folder, ignore_errors=True)
        return
    server = installed_server()
    server.start()
    if request.param == "pgbouncer":
        pooler = installed_pooler(server)
        yield Place(server.url(), pooler.url())
        pooler.remove()
    else:
        yield Place(server.url(), server.url())
    server.remove()


def installed_pooler(server: Server, **options: Any) -> PgBouncer:
    """PgBouncer before a running server."""
    program = find_pgbouncer()
    if program is None:
        missing("PgBouncer", pgbouncer.INSTALL)
    assert program is not None
    return PgBouncer(program, server, **options)


def installed_server() -> Server:
    """A server from the installed binaries, not yet started."""
    binaries = find_binaries()
    if binaries is None:
        missing("PostgreSQL", INSTALL)
    assert binaries is not None
    return Server(binaries)


def in_database(url: str, name: str) -> str:
    return (
        url.replace("/postgres?", f"/{name}?")
        if "?" in url
        else url.rpartition("/")[0] + "/" + name
    )


def point_at(url: str) -> Engine:
    """Let the tables' engine use another database."""
    database = Settings(database_url=url).database
    assert database is not None
    db = piccolo_conf.DB
    db._spare.hang_up()  # it leads to the other database
    db.config.clear()
    db.config.update(database.args)
    db.is_closed = False
    return db


def create_app(
    settings: Settings = piccolo_conf.SETTINGS, db: Engine = piccolo_conf.DB
) -> Starlette:
    """The application with the apps of piccolo_conf."""
    return composition.create_app(settings, db, piccolo_conf.APP_REGISTRY)


@pytest.fixture(scope="session")
async def maintenance(place: Place) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(place.direct)
    for setting in ("fsync", "full_page_writes"):  # nothing here outlives the machine
        await connection.execute(f"ALTER SYSTEM SET {setting} = off")
    await connection.execute("SELECT pg_reload_conf()")
    yield connection
    await connection.close()


@pytest.fixture(scope="session")
async def template(place: Place, maintenance: asyncpg.Connection) -> str:
    """The name of a database that the migrations built."""
    await maintenance.execute("CREATE DATABASE groundwork_template")
    db = point_at(in_database(place.direct, "groundwork_template"))
    await migrate(db)
    await db.close_connection_pool()  # PostgreSQL copies no database that somebody is connected to
    return "groundwork_template"


@asynccontextmanager
async def copy_of(
    template: str, place: Place, maintenance: asyncpg.Connection
) -> AsyncIterator[str]:
    """The URL of a database of its own."""
    name = f"test_{next(_numbers)}"
    how = "STRATEGY file_copy"  # five times as fast as by the WAL
    await maintenance.execute(f"CREATE DATABASE {name} TEMPLATE {template} {how}")
    yield in_database(place.url, name)
    await maintenance.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
async def empty_url(place: Place, maintenance: asyncpg.Connection) -> AsyncIterator[str]:
    """The URL of an empty database."""
    async with copy_of("template1", place, maintenance) as url:
        yield url


@pytest.fixture
async def url(place: Place, template: str, maintenance: asyncpg.Connection) -> AsyncIterator[str]:
    """The URL of a migrated database, of which the tables' engine knows."""
    async with copy_of(template, place, maintenance) as url:
        point_at(url)
        yield url


@pytest.fixture
async def db(url: str) -> AsyncIterator[Engine]:
    """The tables' engine with its pool, on a migrated database."""
    await piccolo_conf.DB.start_connection_pool()
    yield piccolo_conf.DB
    await piccolo_conf.DB.close_connection_pool()


_back_offices: dict[Hashable, ASGIApp] = {}


def share_back_office(app: Starlette, key: Hashable) -> None:
    """Let applications of the same settings and apps share what takes a quarter of a second to
    build."""
    mounted = [getattr(route, "app", None) for route in app.routes]
    [mine] = [each for each in mounted if isinstance(each, BackOffice)]
    if key not in _back_offices:
        _back_offices[key] = mine.build()
    mine._admin = _back_offices[key]


@pytest.fixture
async def app(url: str) -> AsyncIterator[Starlette]:
    app = create_app()
    share_back_office(app, "as configured")
    async with app.router.lifespan_context(app):
        yield app


@pytest.fixture
async def client(app: Starlette) -> AsyncIterator[httpx.AsyncClient]:
    """An outsider: nobody is signed in."""
    async with browser(app) as client:
        yield client


def browser(
    app: Starlette, address: str = "127.0.0.1", base_url: str = "http://test"
) -> httpx.AsyncClient:
    """A client with cookies of its own, at an application in this process."""
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False, client=(address, 4711))
    return httpx.AsyncClient(transport=transport, base_url=base_url)


@asynccontextmanager
async def client_with(
    address: str = "127.0.0.1", base_url: str = "http://test", **settings: object
) -> AsyncIterator[httpx.AsyncClient]:
    """An outsider at an application with other settings, on the database of `url`."""
    db = piccolo_conf.DB
    changed = piccolo_conf.SETTINGS.model_copy(update=settings)
    app = create_app(changed, db)
    before, db.settings = db.settings, changed
    try:
        async with app.router.lifespan_context(app), browser(app, address, base_url) as client:
            yield client
    finally:
        db.settings = before


@pytest.fixture
def hasher_of_everybody(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hash passwords as the application does."""
    monkeypatch.setattr(passwords, "HASHER", HASHER_OF_EVERYBODY)


@pytest.fixture
async def administrator(url: str) -> User:
    """Ada, an administrator and superuser."""
    rights = {"is_admin": True, "is_superuser": True, "is_approved": True}
    return await User.create_user("ada@example.com", PASSWORD, **rights)


@pytest.fixture
async def member(url: str) -> User:
    """Mel, an approved member without rights."""
    return await User.create_user("mel@example.com", PASSWORD, is_approved=True)


async def all_given_back(db: Engine) -> bool:
    """Soon: the task that keeps the pool warm may hold a connection for a moment."""
    async with asyncio.timeout(5):
        while db.figures().in_use:
            await asyncio.sleep(0.01)
    return True


async def sign_in(
    client: httpx.AsyncClient, email: str, password: str = PASSWORD
) -> httpx.Response:
    """Sign in at the admin, as its page does."""
    await client.get("/admin/public/meta/")
    client.headers["X-CSRFToken"] = client.cookies["csrftoken"]
    body = {"username": email, "password": password}
    return await client.post("/admin/public/login/", json=body)


async def enter(client: httpx.AsyncClient, email: str) -> None:
    """Sign in at the API, as a program does."""
    body = {"email": email, "password": PASSWORD}
    answer = await client.post("/api/sign-in", json=body)
    assert answer.status_code == 200, answer.text
    client.headers["x-csrf-token"] = answer.json()["csrf_token"]


def run_piccolo(url: str, *words: str, stdin: str = "", **env: str) -> Done:
    """Run `piccolo ...` as a person would, against a database."""
    return _run([str(Path(sys.executable).parent / "piccolo"), *words], url, stdin, env)


def run_groundwork(url: str, *words: str, stdin: str = "", **env: str) -> Done:
    """Run `groundwork ...`, which has the same commands and starts three times as fast."""
    return _run([sys.executable, "-m", "home", *words], url, stdin, env)


def _run(words: list[str], url: str, stdin: str, env: dict[str, str]) -> Done:
    return subprocess.run(
        words,
        cwd=ROOT,
        env={**os.environ, "DATABASE_URL": url, **env},
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
    )
