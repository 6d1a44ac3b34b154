"""What PostgreSQL itself guarantees about the trail."""

from __future__ import annotations

from audit.tables import AuditLog
from home.engine import Engine
from home.tables import User


async def test_the_trail_survives_its_person(db: Engine, member: User) -> None:
    await AuditLog(action="users.update", user_id=member.id, actor="mel@example.com").save()
    await User.delete().where(User.id == member.id)
    [row] = await AuditLog.select(AuditLog.user_id, AuditLog.actor)
    assert row == {"user_id": None, "actor": "mel@example.com"}


async def test_the_view_shows_the_trail_under_other_names(db: Engine) -> None:
    await AuditLog(action="users.update", resource="users", resource_id="7").save()
    [row] = await db.run_ddl("select * from audit_log")
    names = ["id", "action", "entity_type", "entity_id", "user_id", "timestamp", "details"]
    assert list(row.keys()) == names
    assert (row["entity_type"], row["entity_id"]) == ("users", "7")
