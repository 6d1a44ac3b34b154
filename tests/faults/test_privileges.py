"""Migrations as one role, the application as another: the SQL of docs/reliability.md suffices, and
allows no more than it says."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from pydantic import SecretStr
from structlog.testing import capture_logs

import piccolo_conf
from audit.digests import Seal, SealKeys
from audit.errors import GroundworkError
from audit.jobs import JobStatus
from audit.prune import prune
from audit.record import record
from audit.sealing import concerns, jobs
from audit.seals import LastSealForged, OtherKey, seal
from audit.tables import AuditLog
from audit.verify import verify
from home.accounts import sessions
from home.database.probe import Verdict
from home.monitoring.metrics import Figures, OfProcess
from home.services import Services
from home.tables import User
from tests.audit.trails import KEY
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
    for statement in filter(str.strip, before.split(";\n")):
        await superuser.execute(statement + ";")
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
        assert (await seal(piccolo_conf.DB, keys)).rows > 5
        assert (await verify(piccolo_conf.DB, keys)).problem is None
        assert await sessions.purge(piccolo_conf.DB) == 0
        assert await AuditLog.count() > 5
        tomorrow = datetime.now(UTC) + timedelta(days=1)
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await prune(piccolo_conf.DB, tomorrow, keys)
    point_at(owner)
    assert await prune(piccolo_conf.DB, tomorrow, keys) is not None
    assert (await verify(piccolo_conf.DB, keys)).problem is None
    done = await asyncio.to_thread(run_piccolo, owner, "home", "verify")
    assert done.returncode == 0, done.stdout


FORBIDDEN = [
    "UPDATE audit_logs SET actor = 'nobody'",
    "DELETE FROM audit_logs",
    "TRUNCATE audit_logs",
    "UPDATE audit_seals SET digest = ''",
    "DELETE FROM audit_seals",
    "INSERT INTO audit_removals (kind, first_id, last_id, row_count, rows_digest, actor, digest)"
    " VALUES ('prune', 1, 1, 1, '', '', '')",
    "INSERT INTO audit_archives (name, bytes, first_seal, last_seal, first_id, last_id, row_count,"
    " oldest_at, newest_at) VALUES ('x', 1, 1, 1, 1, 1, 1, now(), now())",
    "SELECT set_config('groundwork.audit_removal', 'on', false); UPDATE audit_logs SET salt = NULL",
    "SELECT set_config('groundwork.audit_removal', 'on', false); DELETE FROM audit_logs",
    "ALTER TABLE audit_logs DISABLE TRIGGER append_only",
    "ALTER TABLE users DISABLE TRIGGER USER",
    "DROP TRIGGER append_only ON audit_logs",
    "SET session_replication_role = replica",
    "CREATE OR REPLACE FUNCTION audit_row_v1() RETURNS trigger LANGUAGE sql AS 'SELECT 1'",
    "DROP TABLE users",
    "CREATE TABLE more (n int)",
    "INSERT INTO migration (name) VALUES ('x')",
    "INSERT INTO audit_logs (id, action) VALUES (1000000, 'x')",
    "INSERT INTO audit_logs (id, action) VALUES (9223372036854775807, 'x')",
    "INSERT INTO audit_logs (action, created_at) VALUES ('x', '2099-01-01')",
    "INSERT INTO audit_logs VALUES (DEFAULT)",
    "COPY audit_logs (id, action) FROM STDIN",
    "SELECT setval('audit_logs_id_seq', 9223372036854775807)",
    "SELECT setval('audit_logs_id_seq', 1)",
    "SELECT setval('audit_seals_id_seq', 1000)",
    "SELECT nextval('audit_seals_id_seq')",
    "ALTER SEQUENCE audit_logs_id_seq RESTART",
    "INSERT INTO audit_log (id, action) VALUES (7, 'x')",
    "UPDATE audit_log SET user_id = NULL",
    "SELECT set_config('groundwork.audit_removal', 'on', false); DELETE FROM audit_log",
    "INSERT INTO audit_seals DEFAULT VALUES",
    "INSERT INTO audit_seals (id, pruned_at) VALUES (100, now())",
    "UPDATE audit_seals SET pruned_at = now()",
]


async def test_it_may_do_no_more(urls: tuple[str, str]) -> None:
    connection = await asyncpg.connect(urls[1])
    await connection.execute("INSERT INTO users (email) VALUES ('a@example.com')")
    await seal(piccolo_conf.DB, SealKeys(None))
    for sql in FORBIDDEN:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute(sql)
    await connection.execute("CREATE TEMPORARY TABLE people (n int)")  # as the directory sync does
    await connection.close()


FORGE = """
    INSERT INTO audit_seals (id, first_id, last_id, row_count, root, removal_count,
                             removals_digest, key_id, previous_digest, created_at, algorithm,
                             digest)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
"""
IN_2099 = datetime(2099, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("key", "forged", "says"),
    [
        (KEY, {"created_at": IN_2099}, "was altered or forged"),
        (KEY, {"last_id": 2**63 - 1}, "was altered or forged"),
        (KEY, {"last_id": 2**63 - 1, "key_id": None}, "has no key, as others before it had"),
        (KEY, {"key_id": None}, "has no key, as others before it had"),
        (KEY, {"key_id": "f" * 16}, "was made with another AUDIT_SEAL_KEY"),
        (None, {"last_id": 2**63 - 1}, "covers ids that no row ever had"),
        (None, {"created_at": IN_2099}, "is from the future"),
    ],
)
async def test_a_forged_seal_does_not_stop_sealing_without_a_word(
    urls: tuple[str, str], key: str | None, forged: dict[str, Any], says: str
) -> None:
    """Whoever has the application's role, but not the key, puts a seal of their own last."""
    db, keys = piccolo_conf.DB, SealKeys(key)
    await record(db, "thing.happened")
    await seal(db, keys)
    row = await db.fetchrow("SELECT * FROM audit_seals")
    assert row is not None
    values = {"id": 2, "previous_digest": row["digest"], "created_at": datetime.now(UTC)} | forged
    made = replace(Seal.of(row), **values)
    digest = made.sign(SealKeys(None)) if made.key_id is None else "f" * 64
    await db.execute(FORGE, *vars(made).values(), made.algorithm, digest)
    await record(db, "thing.happened")
    settings = piccolo_conf.SETTINGS.model_copy(
        update={"audit_seal_key": key and SecretStr(key), "audit_seal_interval": 60}
    )
    [job] = jobs(Services(db, settings))
    status = JobStatus(job)
    with pytest.raises(GroundworkError, match=says) as raised, capture_logs() as logs:
        try:
            await job.run()
        except GroundworkError as error:
            status.failed(error)
            raise
    assert [entry["event"] for entry in logs if entry["log_level"] == "error"] == ["job_failed"]
    if not isinstance(raised.value, LastSealForged | OtherKey):
        assert await db.fetchval("SELECT max(id) FROM audit_seals") == 3, "sealing goes on"
    problem = None
    with suppress(OtherKey):
        problem = (await verify(db, keys)).problem
        assert problem is not None


async def test_a_row_ahead_of_the_sequence_neither_stops_sealing_nor_breaks_it(
    urls: tuple[str, str],
) -> None:
    """The owner, who may, inserts by hand what would stand in the way of the sealer."""
    db, keys = piccolo_conf.DB, SealKeys(KEY)
    owner = await asyncpg.connect(urls[0])
    for id_ in (5_000, 2**63 - 1):
        await record(db, "thing.happened")
        await owner.execute("INSERT INTO audit_logs (id, action) VALUES ($1, 'forged')", id_)
    await record(db, "thing.happened")
    assert (await seal(db, keys)).rows == 3
    await record(db, "thing.happened")
    assert (await seal(db, keys)).rows == 1
    assert (await verify(db, keys)).problem is None
    assert await db.fetchval("SELECT last_value FROM audit_seals_id_seq") == 2
    [said] = await concerns(db, 60)
    assert said.startswith("row 5000 has an id that was never drawn")
    assert (await browsed_overview()).count("Row 5000 has an id that was never drawn") == 1
    point_at(urls[1])
    await owner.execute("ALTER TABLE audit_seals DISABLE TRIGGER append_only")
    await owner.execute("DELETE FROM audit_seals WHERE id = 2")
    problem = (await verify(db, keys)).problem
    assert problem is not None
    assert problem.kind == "seal_removed", "the application's role keeps the evidence"
    await owner.close()


async def test_a_seal_whose_id_does_not_come_next_moves_no_sequence(urls: tuple[str, str]) -> None:
    db = piccolo_conf.DB
    await record(db, "x")
    await seal(db, SealKeys(None))
    values = (100, 1, 1, 1, "", 0, "", None, "", datetime.now(UTC), "sha256", "")
    await db.execute(FORGE, *values)
    assert await db.fetchval("SELECT audit_note_seals_v1()") == 1
    point_at(urls[0])
    await db.execute("ALTER TABLE audit_seals DISABLE TRIGGER append_only")
    await db.execute("DELETE FROM audit_seals WHERE id = 100")
    await db.execute("ALTER TABLE audit_seals ENABLE TRIGGER append_only")
    point_at(urls[1])
    await record(db, "y")
    assert (await seal(db, SealKeys(None))).seals == 1
    assert (await verify(db, SealKeys(None))).problem is None


async def test_rows_that_nobody_seals_are_named(urls: tuple[str, str]) -> None:
    db, owner = piccolo_conf.DB, await asyncpg.connect(urls[0])
    old = "now() - interval '4 hours'"
    await owner.execute(f"INSERT INTO audit_logs (action, created_at) VALUES ('x', {old})")
    assert await concerns(db, 3600) == ["rows have waited for a seal for 4:00:00"]
    told = Figures(Verdict(connected=True), [OfProcess(db, [])])
    figures = {metric.name: metric for metric in told.collect()}
    [sample] = figures["groundwork_trail_unsealed_seconds"].samples
    assert sample.value == 4 * 3600
    assert "Rows have waited for a seal for 4:00:" in await browsed_overview()
    point_at(urls[1])
    await owner.execute("INSERT INTO audit_logs (action, created_at) VALUES ('x', '2099-01-01')")
    assert "the newest row is from the future: a clock is ahead" in await concerns(db)
    await owner.execute("INSERT INTO audit_logs (action, created_at) VALUES ('x', '-infinity')")
    await seal(db, SealKeys(KEY))
    assert await concerns(db, 3600) == []
    await owner.close()


async def browsed_overview() -> str:
    """The first page, as an administrator sees it."""
    await User.create_user(
        "ada@example.com", PASSWORD, is_admin=True, is_superuser=True, is_approved=True
    )
    app = create_app(piccolo_conf.SETTINGS, piccolo_conf.DB)
    async with app.router.lifespan_context(app), browser(app) as client:
        await sign_in(client, "ada@example.com")
        return (await client.get("/")).text
