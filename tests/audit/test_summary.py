"""The trail at a glance: counted once, whether sealed yet or not."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from audit.record import record
from audit.summary import count_sealed, daily_counts
from audit.tables import AuditDailyCount, AuditLog
from home.database.engine import Engine
from home.tables import User

TODAY = datetime.now(UTC).date()
DAYS = [TODAY - timedelta(days=1), TODAY]


async def seal_up_to(db: Engine, last_id: int) -> None:
    await db.fetch(
        "INSERT INTO audit_seals (first_id, last_id, row_count, algorithm, root, digest)"
        " VALUES (1, $1, 1, 'sha256', '', '')",
        last_id,
    )


async def test_what_is_sealed_is_counted_once(db: Engine, member: User) -> None:
    yesterday = datetime.now(UTC) - timedelta(days=1)
    await AuditLog(action="sign_in.failed", created_at=yesterday).save()
    for _ in range(3):
        await record(db, "sign_in.failed")
    newest = await AuditLog.select(AuditLog.id).order_by(AuditLog.id, ascending=False).first()
    assert newest is not None
    for sealed in (1, newest["id"] - 1, newest["id"]):
        counts = await daily_counts(db, DAYS)
        assert counts.series("sign_in.failed") == [1, 3]
        assert counts.changes("users") == [0, 1]
        assert counts.tables() == ["users"]
        await seal_up_to(db, sealed)
        await count_sealed(db)
        await count_sealed(db)
    assert (await daily_counts(db, DAYS)).series("sign_in.failed") == [1, 3]
    events = await AuditDailyCount.select(AuditDailyCount.events).output(as_list=True)
    assert sum(events) == await AuditLog.count()
