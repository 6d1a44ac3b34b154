"""What PostgreSQL itself guarantees about runs."""

from __future__ import annotations

import asyncpg
import pytest

from home.database.engine import Engine
from home.tables import User
from sync_history.tables import Status, SyncRun, Trigger


async def test_one_running_run_for_each_source(db: Engine) -> None:
    await SyncRun(source="directory", status=Status.RUNNING).save()
    await SyncRun(source="crm", status=Status.RUNNING).save()
    await SyncRun(source="directory", status=Status.PENDING).save()
    with pytest.raises(asyncpg.UniqueViolationError):
        await SyncRun(source="directory", status=Status.RUNNING).save()


@pytest.mark.parametrize(("column", "value"), [("status", "done"), ("trigger_type", "cosmic")])
async def test_states_are_checked(db: Engine, column: str, value: str) -> None:
    sql = f"insert into sync_history (source, {column}) values ('directory', '{value}')"
    with pytest.raises(asyncpg.CheckViolationError):
        await db.run_ddl(sql)


@pytest.mark.parametrize("status", list(Status))
@pytest.mark.parametrize("trigger", list(Trigger))
async def test_each_state_can_be_stored(db: Engine, status: Status, trigger: Trigger) -> None:
    await SyncRun(source="directory", status=status, trigger_type=trigger).save()
    assert await SyncRun.count() == 1


async def test_a_run_survives_the_person_who_started_it(db: Engine, member: User) -> None:
    await SyncRun(source="directory", triggered_by=member.id).save()
    await User.delete().where(User.id == member.id)
    [run] = await SyncRun.select()
    assert run["triggered_by"] is None
