"""Migrations as one role, the application as another: the SQL of docs/reliability.md suffices, and
allows no more than it says."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import asyncpg
import pytest

import piccolo_conf
from audit.digests import SealKeys
from audit.prune import prune
from audit.seals import seal
from audit.tables import AuditLog
from audit.verify import verify
from home.accounts import sessions
from tests.conftest import PASSWORD, ROOT, browser, create_app, point_at, run_piccolo, sign_in
from tests.postgres import Server

pytestmark = pytest.mark.direct
PAGE = ROOT / "docs" / "reliability.md"


def sql_of(page: Path) -> list[str]:
    """The blocks of SQL about the two roles, in their order."""
    blocks = re.findall(r"```sql\n(.*?)```", page.read_text(), re.DOTALL)
    return [block for block in blocks if "groundwork_app" in block]


@pytest.fixture
async def urls(server: Server) -> AsyncIterator[tuple[str, str]]:
    """The owner's and the application's, of a database that only they use."""
    superuser = await asyncpg.connect(server.url())
    before, after = sql_of(PAGE)[:2]
    for statement in filter(str.strip, before.split(";")):
        await superuser.execute(statement)
    owner = f"postgresql://groundwork_owner:one@127.0.0.1:{server.port}/groundwork"
    done = await asyncio.to_thread(run_piccolo, owner, "home", "migrate")
    assert done.returncode == 0, done.stderr
    connection = await asyncpg.connect(owner)
    await connection.execute(after)
    await connection.close()
    app = f"postgresql://groundwork_app:two@127.0.0.1:{server.port}/groundwork"
    point_at(app)
    yield owner, app
    await superuser.execute("DROP DATABASE groundwork WITH (FORCE)")
    await superuser.execute("DROP ROLE groundwork_app")
    await superuser.execute("DROP ROLE groundwork_owner")
    await superuser.close()


async def test_the_application_does_its_work(urls: tuple[str, str]) -> None:
    owner, app_url = urls
    done = await asyncio.to_thread(
        run_piccolo,
        app_url,
        "home",
        "create_user",
        "--email=ada@example.com",
        "--superuser",
        "--password-stdin",
        stdin=PASSWORD + "\n",
    )
    assert done.returncode == 0, done.stderr
    app = create_app(piccolo_conf.SETTINGS, piccolo_conf.DB)
    async with app.router.lifespan_context(app), browser(app) as client:
        body = {"email": "mel@example.com", "password": PASSWORD}
        assert (await client.post("/api/register", json=body)).status_code == 202
        await sign_in(client, "ada@example.com")
        path, approval = "/admin/api/forms/approve-a-person/", {"email": "mel@example.com"}
        assert (await client.post(path, json=approval)).status_code == 200
        assert (await client.get("/")).status_code == 200
        assert (await client.get("/admin/api/tables/audit_logs/")).status_code == 200
        assert (await client.get("/api/health?details")).json()["database"][
            "pendingMigrations"
        ] == []
        csrf = (await client.get("/api/me")).json()["csrf_token"]
        headers = {"x-csrf-token": csrf}
        answer = await client.put("/api/me/preferences", json={"n": 1}, headers=headers)
        assert answer.status_code == 200, answer.text
        assert (await client.delete("/api/me/sessions", headers=headers)).status_code == 200
        gone = await client.delete("/admin/api/tables/users/2/")
        assert gone.status_code == 204, "whose records stay"
        keys = SealKeys(None)
        assert (await seal(keys)).rows > 5
        assert (await verify(keys)).problem is None
        assert await sessions.purge(piccolo_conf.DB) == 0
        assert await AuditLog.count() > 5
        tomorrow = datetime.now(UTC) + timedelta(days=1)
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await prune(tomorrow, keys)
    point_at(owner)
    assert await prune(tomorrow, keys) is not None
    assert (await verify(keys)).problem is None
    done = await asyncio.to_thread(run_piccolo, owner, "home", "verify")
    assert done.returncode == 0, done.stdout


FORBIDDEN = [
    "UPDATE audit_logs SET actor = 'nobody'",
    "DELETE FROM audit_logs",
    "TRUNCATE audit_logs",
    "UPDATE audit_seals SET digest = ''",
    "DELETE FROM audit_seals",
    "SELECT set_config('groundwork.audit_prune', 'on', false); DELETE FROM audit_logs",
    "ALTER TABLE audit_logs DISABLE TRIGGER append_only",
    "ALTER TABLE users DISABLE TRIGGER USER",
    "DROP TRIGGER append_only ON audit_logs",
    "SET session_replication_role = replica",
    "CREATE OR REPLACE FUNCTION audit_row_v1() RETURNS trigger LANGUAGE sql AS 'SELECT 1'",
    "DROP TABLE users",
    "CREATE TABLE more (n int)",
    "INSERT INTO migration (name) VALUES ('x')",
]


async def test_it_may_do_no_more(urls: tuple[str, str]) -> None:
    connection = await asyncpg.connect(urls[1])
    await connection.execute("INSERT INTO users (email) VALUES ('a@example.com')")
    await seal(SealKeys(None))
    for sql in FORBIDDEN:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute(sql)
    await connection.close()
