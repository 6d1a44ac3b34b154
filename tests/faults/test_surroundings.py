"""R22: roles, databases, environments that are set otherwise: it works, or says what is wrong."""

from __future__ import annotations

import asyncio
import itertools
import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest

import piccolo_conf
from home.database.connection import GUARDS, ONE_REQUEST, PINNED
from home.database.migrations import migrate
from home.database.schema import differences
from home.tables import User
from tests.conftest import (
    PASSWORD,
    browser,
    create_app,
    enter,
    in_database,
    installed_pooler,
    installed_server,
    missing,
    point_at,
    run_piccolo,
)
from tests.live import running
from tests.pgbouncer import PgBouncer
from tests.postgres import Server

pytestmark = pytest.mark.direct
_numbers = itertools.count()
ROLES = {
    "serializable": "SET default_transaction_isolation = 'serializable'",
    "repeatable read": "SET default_transaction_isolation = 'repeatable read'",
    "short statement_timeout": "SET statement_timeout = '300ms'",
    "short lock_timeout": "SET lock_timeout = '10ms'",
    "strings with backslashes": "SET standard_conforming_strings = off",
    "another schema": 'SET search_path = "My App"',
    "dates of elsewhere": "SET DateStyle = 'German, DMY'",
    "another time zone": "SET TimeZone = 'Pacific/Chatham'",
}


@asynccontextmanager
async def database(server: Server, options: str = "", role: str = "") -> AsyncIterator[str]:
    """The URL of an empty database whose owner is no superuser, with this `ALTER ROLE`."""
    name = f"surroundings_{next(_numbers)}"
    admin = await asyncpg.connect(server.url())
    await admin.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'one'")
    await admin.execute(f"CREATE DATABASE {name} OWNER {name} TEMPLATE template0 {options}")
    inside = await asyncpg.connect(in_database(server.url(), name))
    await inside.execute(f"ALTER SCHEMA public OWNER TO {name}")
    await inside.execute(f'CREATE SCHEMA "My App" AUTHORIZATION {name}')
    await inside.close()
    if role:
        await admin.execute(f"ALTER ROLE {name} {role}")
    try:
        yield f"postgresql://{name}:one@127.0.0.1:{server.port}/{name}"
    finally:
        await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
        await admin.execute(f"DROP ROLE {name}")
        await admin.close()


async def works(url: str, at_once: tuple[int, ...] = (200,)) -> None:
    """Everything that a first day needs: migrating, signing in, changing, looking.

    `at_once`: how twenty changes of the same row may be answered.
    """
    db = point_at(url)
    await migrate(db)
    assert await differences(db) == []
    rights = {"is_admin": True, "is_superuser": True, "is_approved": True}
    await User.create_user("ada.jones@example.com", PASSWORD, **rights)
    app = create_app(piccolo_conf.SETTINGS, db)
    async with app.router.lifespan_context(app), browser(app) as client:
        await enter(client, "ada.jones@example.com")
        for value in ("ß € \\ ' \N{SNOWMAN}", "2026-01-31"):
            body = {"value": value}
            answer = await client.put("/api/me/preferences", json=body)
            assert answer.status_code == 200, answer.text
            assert (await client.get("/api/me/preferences")).json() == body
        changes = [client.put("/api/me/preferences", json={"n": n}) for n in range(20)]
        assert {answer.status_code for answer in await asyncio.gather(*changes)} <= {*at_once}
        for path in ("/", "/admin/api/tables/users/", "/admin/api/tables/audit_logs/", "/health"):
            assert (await client.get(path)).status_code == 200, path


@pytest.mark.parametrize("role", ROLES)
async def test_roles_may_have_settings_of_their_own(server: Server, role: str) -> None:
    async with database(server, role=ROLES[role]) as url:
        await works(url, (200, 503) if "timeout" in role else (200,))


async def test_a_database_of_the_locale_c_works(server: Server) -> None:
    async with database(server, "ENCODING 'UTF8' LOCALE 'C'") as url:
        await works(url)


async def test_a_role_that_only_reads_is_named(server: Server) -> None:
    async with database(server, role="SET default_transaction_read_only = on") as url:
        await is_refused(url, "read_only", "its default is read-only")


@pytest.mark.parametrize("encoding", ["SQL_ASCII", "LATIN1"])
async def test_a_database_that_cannot_hold_every_text_is_named(
    server: Server, encoding: str
) -> None:
    async with database(server, f"ENCODING '{encoding}' LOCALE 'C'") as url:
        await is_refused(url, "encoding_not_utf8", "ENCODING 'UTF8'")


async def is_refused(url: str, reason: str, sentence: str) -> None:
    """By commands, in the log, by health, and with 503; and nothing is made."""
    done = await asyncio.to_thread(run_piccolo, url, "home", "migrate")
    assert done.returncode == 1
    assert reason in done.stderr
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr
    with running(url) as live:
        report: Any = {"database": {"error": "timeout"}}
        while report["database"]["error"] == "timeout":  # it is still connecting
            report = (await asyncio.to_thread(live.get, "/api/health")).json()
        assert (report["status"], report["database"]["error"]) == ("degraded", reason)
        assert (await asyncio.to_thread(live.get, "/health")).status_code == 503
        if reason != "read_only":  # for which there must be tables
            body = {"email": "ada@example.com", "display_name": "Ada", "password": PASSWORD}
            async with httpx.AsyncClient(base_url=live.address, timeout=30) as client:
                answer = await client.post("/api/register", json=body)
            assert answer.status_code == 503, answer.text
            assert answer.headers["retry-after"]
        output = await asyncio.to_thread(live.end)
    assert sentence in output
    assert "Traceback" not in output


@pytest.fixture
def german(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A server that complains in German."""
    if shutil.which("localedef") is None or not Path("/usr/share/i18n/locales/de_DE").exists():
        missing("the locale de_DE", "apt-get install locales")
    folder = Path(f"/tmp/groundwork-test-locales-{os.getpid()}")
    folder.mkdir(exist_ok=True)
    compile_ = ["localedef", "-i", "de_DE", "-f", "UTF-8", str(folder / "de_DE.UTF-8")]
    subprocess.run(compile_, check=True, capture_output=True)
    monkeypatch.setenv("LOCPATH", str(folder))
    server = installed_server()
    server.start(lc_messages="de_DE.UTF-8")
    yield server
    server.remove()
    shutil.rmtree(folder)


async def test_a_server_of_another_language_works(german: Server) -> None:
    connection = await asyncpg.connect(german.url())
    try:
        await connection.execute("SELECT nonsense")
    except asyncpg.UndefinedColumnError as error:
        if "existiert nicht" not in str(error):
            missing("the German messages of PostgreSQL", "apt-get install postgresql-15")
    finally:
        await connection.close()
    async with database(german) as url:
        await works(url)


NONSENSE = {
    "PGHOST": "nowhere.invalid",
    "PGHOSTADDR": "nonsense",
    "PGPORT": "nonsense",
    "PGUSER": "nobody",
    "PGPASSWORD": "wrong",
    "PGPASSFILE": "/missing/pgpass",
    "PGDATABASE": "nothing",
    "PGSERVICE": "missing",
    "PGSERVICEFILE": "/missing/service.conf",
    "PGOPTIONS": "-c nonsense=1",
    "PGCLIENTENCODING": "nonsense",
    "PGDATESTYLE": "nonsense",
    "PGTZ": "nonsense",
    "PGSSLMODE": "verify-full",
    "PGSSLROOTCERT": "/missing/root.crt",
    "PGSSLCERT": "/missing/postgresql.crt",
    "PGSSLKEY": "/missing/postgresql.key",
    "PGSSLCRL": "/missing/root.crl",
    "PGSSLNEGOTIATION": "nonsense",
    "PGSSLMINPROTOCOLVERSION": "TLSv9",
    "PGSSLMAXPROTOCOLVERSION": "TLSv0",
    "PGGSSLIB": "nonsense",
    "PGKRBSRVNAME": "nonsense",
    "PGTARGETSESSIONATTRS": "standby",
    "PGDATA": "/missing",
}


async def test_the_settings_decide_and_no_variable_of_libpq(server: Server) -> None:
    async with database(server) as url:
        parts = {"DATABASE_URL": "", "DB_HOST": "127.0.0.1", "DB_PORT": str(server.port)}
        name = url.rpartition("/")[2]
        parts |= {"DB_USER": name, "DB_NAME": name, "DB_PASSWORD": "one"}
        for given in ({"DATABASE_URL": url}, parts):
            done = await asyncio.to_thread(run_piccolo, url, "home", "migrate", **NONSENSE, **given)
            assert done.returncode == 0, done.stderr
            variables = {**NONSENSE, **given}
            with running(variables.pop("DATABASE_URL"), **variables) as live:
                report = await asyncio.to_thread(live.get, "/api/health")
                assert report.json()["status"] == "ok", report.text


async def test_a_password_file_of_the_user_does_not_count(server: Server, tmp_path: Path) -> None:
    file = tmp_path / ".pgpass"
    file.write_text("*:*:*:*:one\n")
    file.chmod(0o600)
    async with database(server) as url:
        url = url.replace(":one@", "@")
        done = await asyncio.to_thread(run_piccolo, url, "home", "migrate", HOME=str(tmp_path))
    assert done.returncode == 1
    assert "authentication_failed" in done.stderr


@pytest.fixture
def pooler(server: Server, request: pytest.FixtureRequest) -> Iterator[PgBouncer]:
    """PgBouncer in transaction mode, of which the settings know nothing."""
    pooler = installed_pooler(server, **getattr(request, "param", {}))
    yield pooler
    pooler.remove()


IGNORED = ",".join({**GUARDS, **PINNED, **ONE_REQUEST})
POOLER = ("pooler_not_configured", "set DB_POOLER=transaction")


async def test_a_pooler_that_refuses_is_named(pooler: PgBouncer) -> None:
    await is_refused(pooler.url(), *POOLER)


@pytest.mark.parametrize("pooler", [{"ignored": IGNORED}], indirect=True, ids=[""])
async def test_a_pooler_that_loses_statements_is_named_and_no_request_gets_a_500(
    pooler: PgBouncer,
) -> None:
    with running(pooler.url()) as live:
        async with httpx.AsyncClient(base_url=live.address, timeout=30) as client:
            body = {"email": "nobody@example.com", "password": "wrong"}
            statuses = []
            for _ in range(10):
                signing_in = [client.post("/api/sign-in", json=body) for _ in range(20)]
                statuses += [answer.status_code for answer in await asyncio.gather(*signing_in)]
            report = (await client.get("/api/health")).json()
            assert (await client.get("/health")).status_code == 503
        output = await asyncio.to_thread(live.end)
    counts = {status: statuses.count(status) for status in statuses}
    print(f"R22, a pooler that nobody told of: {counts}")
    assert 500 not in statuses
    assert (report["status"], report["database"]["error"]) == ("degraded", POOLER[0])
    assert all(word in output for word in POOLER)
