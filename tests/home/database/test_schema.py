"""verify says one line for one thing, and reset rebuilds whatever it finds."""

from __future__ import annotations

import asyncpg
import pytest

from audit.database import Connection
from home.database.engine import Engine
from home.database.schema import NOT_MIGRATED, differences, rebuild
from home.tables import User
from tests.conftest import PASSWORD, point_at, run_piccolo


async def change(db: Engine, sql: str) -> None:
    """Run several statements."""
    async with db.connection() as connection:
        await connection.execute(sql)


@pytest.mark.parametrize(
    ("sql", "line"),
    [
        ("ALTER TABLE users DROP clerk_id", "column users.clerk_id: is missing; expected"),
        ("ALTER TABLE users ADD shoe_size int UNIQUE", None),
        ("DROP TABLE user_preferences", "table user_preferences: is missing; expected table"),
        ("DROP FUNCTION touch_updated_at_v1 CASCADE", "function touch_updated_at_v1: is missing"),
        (
            "ALTER TABLE users DROP CONSTRAINT users_email_unique",
            "constraint users.users_email_unique: is missing; expected UNIQUE (email)",
        ),
        (
            "CREATE INDEX stray ON users (organization)",
            "index users.stray: is not declared; found CREATE INDEX stray ON users",
        ),
        ("DROP VIEW signed_in", "view signed_in: is missing; expected SELECT"),
        ("CREATE OR REPLACE VIEW signed_in AS SELECT * FROM signed_in", None),
        ("CREATE TABLE of_another_program (n serial PRIMARY KEY)", None),
    ],
)
async def test_one_line_for_one_difference(db: Engine, sql: str, line: str | None) -> None:
    if "REPLACE" in sql:
        definition = await db.fetchval("SELECT pg_get_viewdef('signed_in'::regclass, true)")
        sql = f"CREATE OR REPLACE VIEW signed_in AS {definition.rstrip().rstrip(';')} LIMIT 5"
        line = "view signed_in: is SELECT"
    await change(db, sql)
    found = await differences(db)
    if "shoe_size" in sql:  # two things, of which the index is none
        assert [each.partition(" ")[0] for each in found] == ["column", "constraint"]
    elif line is None:
        assert found == []
    else:
        [only] = found
        assert only.startswith(line)
        assert "\n" not in only


async def test_an_empty_database_is_one_line(empty_url: str) -> None:
    assert await differences(point_at(empty_url)) == [NOT_MIGRATED]
    done = run_piccolo(empty_url, "home", "verify")
    assert (done.returncode, done.stdout) == (1, NOT_MIGRATED + "\n")


@pytest.mark.parametrize("app", ["audit", "home"])  # which others build on
async def test_of_a_pending_migration_nothing_else_is_said(db: Engine, app: str) -> None:
    gone = await db.fetch("DELETE FROM migration WHERE app_name = $1 RETURNING name", app)
    ids = sorted(row["name"] for row in gone)
    assert await differences(db) == [
        f"migration {id_}: is not applied; run piccolo home migrate" for id_ in ids
    ]


async def test_what_is_not_pending_is_compared_all_the_same(db: Engine) -> None:
    await change(db, "DELETE FROM migration WHERE app_name = 'sync_history'")
    await change(db, "DROP TRIGGER directory_enabled ON users; DROP INDEX idx_users_clerk_id")
    *pending, drift = await differences(db)
    assert pending
    assert all(line.endswith("is not applied; run piccolo home migrate") for line in pending)
    assert drift.startswith("index users.idx_users_clerk_id: is missing")


async def test_a_sequence_that_is_behind_is_named_with_the_mend(db: Engine) -> None:
    await db.execute("INSERT INTO users (id, email) VALUES (7, 'ada@example.com')")
    [line] = await differences(db)
    what, _, mend = line.partition("; run ")
    assert what == "sequence users_id_seq: its next number is taken, since users.id goes up to 7"
    await db.fetchval(mend)
    assert await differences(db) == []
    await User.create_user("bo@example.com", PASSWORD)


DRIFT = """
    DROP TABLE sessions CASCADE;
    DROP INDEX idx_users_is_approved;
    ALTER TABLE user_preferences RENAME user_id TO person_id;
    DROP FUNCTION touch_updated_at_v1 CASCADE;
    DROP VIEW audit_log;
    CREATE TABLE audit_log (n int);
    DELETE FROM migration WHERE app_name = 'home';
    CREATE TABLE of_another_program (n int, user_id int REFERENCES users);
    INSERT INTO of_another_program VALUES (1);
    INSERT INTO users (email) VALUES ('ada@example.com')
"""


async def test_a_drifted_schema_is_rebuilt_and_tables_of_others_stay(db: Engine) -> None:
    await change(db, DRIFT)
    await rebuild(db)
    assert await differences(db) == []
    assert await User.count() == 0
    assert await db.fetchval("SELECT n FROM of_another_program") == 1


async def test_reset_works_on_a_schema_that_is_half_gone(url: str) -> None:
    connection = await asyncpg.connect(url)
    await connection.execute("DROP TABLE migration; DROP TABLE sessions CASCADE")
    await connection.close()
    for options in ([], ["--force"]):
        done = run_piccolo(url, "home", "reset", *options)
        assert done.returncode == 0, done.stderr
    assert run_piccolo(url, "home", "verify").returncode == 0


async def test_a_rebuild_that_fails_changes_nothing(
    db: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(connection: Connection) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("home.database.schema.apply_batch", fail)
    await User.create_user("ada@example.com", PASSWORD)
    with pytest.raises(ZeroDivisionError):
        await rebuild(db)
    assert await User.count() == 1
    assert await differences(db) == []


async def test_what_hides_or_diverts_rows_is_a_difference(db: Engine) -> None:
    for change in (
        "ALTER TABLE users ENABLE ROW LEVEL SECURITY",
        "CREATE POLICY nobody ON users USING (false)",
        "CREATE RULE nothing AS ON INSERT TO audit_logs DO INSTEAD NOTHING",
    ):
        await db.run_ddl(change)
    found = "\n".join(await differences(db))
    for named in ("users", "nobody", "nothing"):
        assert named in found
    assert len(found.splitlines()) == 3
