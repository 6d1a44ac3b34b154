"""What PostgreSQL itself guarantees about the trail."""

from __future__ import annotations

import asyncpg
import pytest

from audit.record import Event, record, record_many
from audit.tables import AuditLog, AuditSeal
from home.database.engine import Engine
from home.tables import User


async def test_the_trail_survives_its_person(db: Engine, member: User) -> None:
    await AuditLog(action="something.done", user_id=member.id, actor="mel@example.com").save()
    await User.delete().where(User.id == member.id)
    done = AuditLog.action == "something.done"
    [row] = await AuditLog.select(AuditLog.user_id, AuditLog.actor).where(done)
    assert row == {"user_id": None, "actor": "mel@example.com"}


async def test_the_view_shows_the_trail_under_other_names(db: Engine) -> None:
    await record(db, "users.seen", "users", 7)
    [row] = await db.run_ddl("select * from audit_log")
    names = ["id", "action", "entity_type", "entity_id", "user_id", "timestamp", "details"]
    assert list(row.keys()) == names
    assert (row["entity_type"], row["entity_id"]) == ("users", "7")


@pytest.mark.parametrize(
    "change",
    [
        "update audit_logs set actor = 'somebody else'",
        "update audit_logs set user_id = null",
        "delete from audit_logs",
        "truncate audit_logs",
        "truncate users cascade",
        "update audit_seals set row_count = 0",
        "delete from audit_seals",
        "truncate audit_seals",
    ],
)
async def test_the_trail_is_append_only(db: Engine, member: User, change: str) -> None:
    await AuditLog(action="something.done", user_id=member.id, actor="mel@example.com").save()
    seal = "insert into audit_seals (first_id, last_id, row_count, algorithm, root, digest) "
    await db.run_ddl(seal + "values (1, 1, 1, 'sha256', '', 'x')")
    before = await AuditLog.select(), await AuditSeal.count()
    with pytest.raises(asyncpg.InsufficientPrivilegeError, match="append-only"):
        await db.run_ddl(change)
    assert (await AuditLog.select(), await AuditSeal.count()) == before


@pytest.mark.parametrize(
    "change",
    ["update audit_logs set actor = 'x'", "truncate audit_logs", "delete from audit_seals"],
)
async def test_pruning_opens_the_trail_for_nothing_else(db: Engine, change: str) -> None:
    await record(db, "something.done")
    seal = "insert into audit_seals (first_id, last_id, row_count, algorithm, root, digest) "
    await db.run_ddl(seal + "values (1, 1, 1, 'sha256', '', 'x')")
    with pytest.raises(asyncpg.InsufficientPrivilegeError, match="append-only"):
        async with db.transaction():
            await db.fetch("select set_config('groundwork.audit_removal', 'on', true)")
            await db.fetch(change)


async def test_an_event_joins_the_transaction(db: Engine) -> None:
    with pytest.raises(ZeroDivisionError):
        async with db.transaction():
            await record(db, "something.happened")
            await record_many(db, [Event("something.else")])
            raise ZeroDivisionError
    assert await AuditLog.count() == 0


async def test_events_hold_what_text_cannot(db: Engine) -> None:
    awkward = {"name\0": "nul \0 half \ud800 {} '", "list": ["\0"], "n": float("nan")}
    await record(db, "x" * 100, "users", "9" * 300, awkward)
    await record_many(db, [Event("many.events", details=awkward)] * 3)
    rows = await AuditLog.select().order_by(AuditLog.id)
    assert len(rows) == 4
    assert len(rows[0]["resource_id"]) == 255
    assert all("\N{REPLACEMENT CHARACTER}" in row["details"] for row in rows)
    assert all(row["actor"].startswith("db:") for row in rows)


async def test_the_way_round_for_deleted_people_changes_nothing_else(db: Engine) -> None:
    """The foreign key's SET NULL comes from inside a trigger; so may others."""
    await record(db, "thing.happened", "things", "1")
    for statement in (
        "CREATE TABLE bait (n int)",
        "CREATE FUNCTION forge() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN UPDATE audit_logs SET user_id = NULL, actor = 'x'; RETURN NEW; END $$",
        "CREATE TRIGGER forge BEFORE INSERT ON bait FOR EACH ROW EXECUTE FUNCTION forge()",
    ):
        await db.run_ddl(statement)
    with pytest.raises(asyncpg.InsufficientPrivilegeError, match="append-only"):
        await db.run_ddl("INSERT INTO bait VALUES (1)")
