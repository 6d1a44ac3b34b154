"""Forwards, backwards, forwards again; many at once; and what verify finds."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys

import asyncpg
import pytest
from piccolo.apps.migrations.auto.migration_manager import MigrationManager

from audit.ddl import AppMigration, sql_file
from home.database.engine import Engine
from home.database.migrations import known_migrations
from home.database.schema import Catalog, differences, read_catalog
from tests.conftest import ROOT, run_piccolo

# The rules of the schema, by name.
NAMES = [
    "users_email_unique",
    "users_email_check",
    "users_approved_by_fk",
    "user_preferences_user_id_unique",
    "user_preferences_user_id_fk",
    "sessions_user_id_fk",
    "audit_logs_user_id_fk",
    "sync_history_status_check",
    "sync_history_trigger_type_check",
    "sync_history_triggered_by_fk",
    "idx_users_email",
    "idx_users_clerk_id",
    "idx_users_is_approved",
    "idx_sessions_expire",
    "idx_audit_logs_action",
    "idx_audit_logs_created_at",
    "idx_audit_logs_is_admin_action",
    "idx_audit_logs_user_id_created_at",
    "idx_audit_logs_resource_resource_id",
    "idx_audit_logs_actor",
    "idx_audit_logs_resource",
    "idx_audit_logs_ip_address",
    "idx_audit_logs_request_id",
    "idx_audit_seals_last_id",
    "idx_sync_history_started_at",
    "idx_sync_history_one_running",
    "audit_log",
]


async def catalog(url: str) -> Catalog:
    connection = await asyncpg.connect(url)
    found = await read_catalog(connection, "public")
    await connection.close()
    return found


def without_positions(found: Catalog) -> Catalog:
    return {key: text for key, text in found.items() if key[1] != "migration"}


async def test_the_schema_has_every_name_of_the_specification(url: str) -> None:
    found = await catalog(url)
    present = {name for _, _, name in found} | {relation for _, relation, _ in found}
    assert set(NAMES) - present == set()


@pytest.mark.any_version
async def test_forwards_backwards_app_by_app_and_forwards_again(empty_url: str) -> None:
    assert run_piccolo(empty_url, "migrations", "forwards", "all").returncode == 0
    first = await catalog(empty_url)
    assert run_piccolo(empty_url, "migrations", "forwards", "all").returncode == 0
    assert await catalog(empty_url) == first
    for app in ("sync_history", "home", "audit"):
        last = ("migrations", "backwards", app, "--auto_agree")
        for arguments in (last, (*last, "--migration_id=all")):
            done = run_piccolo(empty_url, *arguments)
            assert done.returncode == 0, done.stdout + done.stderr
    assert without_positions(await catalog(empty_url)) == {}
    assert run_piccolo(empty_url, "migrations", "forwards", "all").returncode == 0
    assert await catalog(empty_url) == first


@pytest.mark.parametrize(("app", "first"), [("audit", "sync_history"), ("home", "sync_history")])
async def test_going_backwards_under_another_app_is_refused(url: str, app: str, first: str) -> None:
    before = await catalog(url)
    done = run_piccolo(url, "migrations", "backwards", app, "--auto_agree")
    assert done.returncode == 1
    assert f"piccolo migrations backwards {first} --migration_id=all" in done.stderr
    assert await catalog(url) == before


@pytest.mark.any_version
@pytest.mark.parametrize(("app", "first"), [("home", "audit"), ("sync_history", "audit")])
async def test_going_forwards_before_another_app_is_refused(
    empty_url: str, app: str, first: str
) -> None:
    for _ in range(2):
        done = run_piccolo(empty_url, "migrations", "forwards", app)
        assert done.returncode == 1
        assert f"Run this first: piccolo migrations forwards {first}\n" in done.stderr
        assert "Traceback" not in done.stderr
        assert without_positions(await catalog(empty_url)) == {}
        connection = await asyncpg.connect(empty_url)
        assert await connection.fetch("SELECT * FROM migration WHERE app_name = $1", app) == []
        # Not all of it, either: as if another of its migrations had been applied.
        await connection.execute("INSERT INTO migration (name, app_name) VALUES ('x', $1)", first)
        await connection.close()


async def test_the_order_that_the_refusals_name_leads_to_the_end(empty_url: str) -> None:
    for app in ("audit", "home", "sync_history"):
        done = run_piccolo(empty_url, "migrations", "forwards", app)
        assert done.returncode == 0, done.stdout + done.stderr
    assert "as declared" in run_piccolo(empty_url, "home", "verify").stdout


def test_migrations_load_nothing_that_only_the_server_needs() -> None:
    program = """if True:
        import sys
        sys.argv = ["piccolo", "migrations", "forwards", "all"]
        from piccolo.conf.apps import Finder
        for config in Finder().get_app_registry().app_configs.values():
            assert config.table_classes and not config.get_commands()
        print(*{module.partition(".")[0] for module in sys.modules})
    """
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    heavy = {"apscheduler", "httpx", "piccolo_admin", "rich", "starlette", "structlog", "uvicorn"}
    assert heavy & set(done.stdout.split()) == set()


async def test_all_the_way_back_at_once(url: str) -> None:
    done = run_piccolo(url, "migrations", "backwards", "all", "--auto_agree")
    assert done.returncode == 0
    assert without_positions(await catalog(url)) == {}


@pytest.mark.parametrize("app", ["audit", "home", "sync_history"])
def test_a_new_migration_would_be_empty(url: str, app: str) -> None:
    folder = ROOT / app / "piccolo_migrations"
    files = sorted(folder.iterdir())
    done = run_piccolo(url, "migrations", "new", app, "--auto", "--auto_input=y")
    assert "No changes detected" in done.stdout
    assert sorted(folder.iterdir()) == files


@pytest.mark.any_version
async def test_ten_at_once_apply_each_migration_once(empty_url: str) -> None:
    runs = [asyncio.to_thread(run_piccolo, empty_url, "home", "migrate") for _ in range(10)]
    done = await asyncio.gather(*runs)
    assert [run.returncode for run in done] == [0] * 10, "\n".join(run.stderr for run in done)
    connection = await asyncpg.connect(empty_url)
    recorded = [row["name"] for row in await connection.fetch("select name from migration")]
    await connection.close()
    assert sorted(recorded) == sorted(known_migrations())


async def test_a_failing_migration_leaves_no_trace(db: Engine) -> None:
    async def build_then_fail() -> None:
        await db.run_ddl("create table half_built (n int)")
        raise ZeroDivisionError

    migration = MigrationManager(migration_id="x", app_name="home")
    migration.add_raw(build_then_fail)
    with pytest.raises(ZeroDivisionError):
        await migration.run()
    assert (await db.run_ddl("select to_regclass('half_built')"))[0]["to_regclass"] is None


async def test_a_failing_step_after_the_tables_leaves_no_trace(db: Engine) -> None:
    async def look_then_fail() -> None:
        [row] = await db.run_ddl("select to_regclass('half_built')")
        assert row["to_regclass"] == "half_built"
        raise ZeroDivisionError

    migration = AppMigration(migration_id="x", app_name="home")
    migration.add_table("HalfBuilt", "half_built")
    migration.add_raw_after_tables(look_then_fail)
    with pytest.raises(ZeroDivisionError):
        await migration.run()
    assert (await db.run_ddl("select to_regclass('half_built')"))[0]["to_regclass"] is None


async def test_sql_files_may_hold_braces_and_several_statements(db: Engine) -> None:
    file = ROOT / "tests" / "home" / "database" / "braces.sql"
    await sql_file(file)()
    [row] = await db.run_ddl("select document from braces")
    assert json.loads(row["document"]) == {"a": {}}


async def test_verify_says_nothing_of_a_schema_as_declared(db: Engine) -> None:
    assert await differences(db) == []


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("DROP INDEX idx_users_clerk_id", "index users.idx_users_clerk_id: is missing"),
        (
            "ALTER TABLE audit_logs ALTER ip_address TYPE text",
            "column audit_logs.ip_address: is text",
        ),
        (
            "DROP TRIGGER touch_updated_at ON users",
            "trigger users.touch_updated_at: is missing",
        ),
        (
            "ALTER TABLE users DISABLE TRIGGER touch_updated_at",
            "trigger users.touch_updated_at: is",
        ),
        (
            "ALTER TABLE users ADD shoe_size int",
            "column users.shoe_size: is not declared; found integer",
        ),
        (
            "ALTER TABLE sessions ALTER sess DROP NOT NULL",
            "column sessions.sess: is jsonb DEFAULT '{}'::jsonb; expected jsonb NOT NULL",
        ),
        ("ALTER TABLE users ALTER is_admin SET DEFAULT true", "column users.is_admin: is boolean"),
        (
            "ALTER TABLE users DROP CONSTRAINT users_email_check;"
            "ALTER TABLE users ADD CONSTRAINT users_email_check CHECK (email <> '')",
            "constraint users.users_email_check: is CHECK",
        ),
        (
            "CREATE OR REPLACE FUNCTION touch_updated_at_v1() RETURNS trigger LANGUAGE plpgsql"
            " AS 'BEGIN RETURN NEW; END'",
            "function touch_updated_at_v1: is",
        ),
        (
            "ALTER FUNCTION audit_row_v1() SECURITY INVOKER",
            "function audit_row_v1: is ",
        ),
        (
            "CREATE OR REPLACE FUNCTION audit_masked_v1(row_ jsonb, mask text[]) RETURNS jsonb"
            " LANGUAGE sql AS 'SELECT row_'",
            "function audit_masked_v1: is ",
        ),
        ("DROP VIEW audit_log", "view audit_log: is missing"),
        ("DROP TABLE user_preferences", "table user_preferences: is missing"),
    ],
)
async def test_verify_names_each_difference(db: Engine, change: str, expected: str) -> None:
    async with db.connection() as connection:
        await connection.execute(change)
    assert [line for line in await differences(db) if line.startswith(expected)]


async def test_verify_names_pending_migrations_and_exits_with_1(url: str) -> None:
    connection = await asyncpg.connect(url)
    await connection.execute("DELETE FROM migration WHERE app_name = 'sync_history'")
    await connection.close()
    done = run_piccolo(url, "home", "verify")
    assert done.returncode == 1
    assert "is not applied; run piccolo home migrate" in done.stdout


async def test_verify_leaves_nothing_behind_and_ignores_tables_of_others(db: Engine) -> None:
    await db.run_ddl("create table of_another_program (n int)")
    assert await differences(db) == []
    [row] = await db.run_ddl("select count(*) from pg_namespace where nspname like 'groundwork%'")
    assert row["count"] == 0


async def test_updated_at_follows_changes(db: Engine) -> None:
    await db.run_ddl("insert into users (email) values ('a@b')")
    sql = (
        "update users set display_name = 'A', updated_at = '2000-01-01' returning updated_at, role"
    )
    [row] = await db.run_ddl(sql)
    assert row["updated_at"].year > 2000
    assert row["role"] == "user"
