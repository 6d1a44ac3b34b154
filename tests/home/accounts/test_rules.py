"""Rules that hold whatever way a change takes, and sign-ins that fail too often."""

from __future__ import annotations

import asyncio

import asyncpg
import httpx
import pytest
from argon2 import PasswordHasher

import piccolo_conf
from audit.context import Actor, acting_as
from audit.record import record
from audit.tables import AuditLog
from home.database.engine import Engine
from home.tables import Session, User
from tests.conftest import PASSWORD, sign_in


async def test_nobody_approves_themselves(db: Engine, administrator: User) -> None:
    new = await User.create_user("new@example.com", PASSWORD)
    approve = User.update({User.is_approved: True}).where(User.id == new.id)
    himself = acting_as(Actor("new@example.com", new.id))
    with himself, pytest.raises(asyncpg.CheckViolationError) as refused:
        await approve
    assert refused.value.constraint_name == "users_no_self_approval"
    with acting_as(Actor("ada@example.com", administrator.id)):
        await approve
    row = await User.select(User.approved_by, User.approved_at).where(User.id == new.id).first()
    assert row is not None
    assert row["approved_by"] == administrator.id
    assert row["approved_at"] is not None


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE users SET is_superuser = false",
        "UPDATE users SET is_disabled = true",
        "UPDATE users SET is_approved = false",
        "DELETE FROM users",
    ],
)
async def test_the_last_superuser_stays(db: Engine, administrator: User, change: str) -> None:
    second = await User.create_user(
        "bea@example.com", "a password of bea's", is_superuser=True, is_approved=True
    )
    await db.run_ddl(f"{change} WHERE id = {second.id}")
    with pytest.raises(asyncpg.CheckViolationError, match="last active superuser"):
        await db.run_ddl(f"{change} WHERE id = {administrator.id}")
    with pytest.raises(asyncpg.CheckViolationError):
        await db.run_ddl(change)
    assert await User.exists().where(User.id == administrator.id, User.is_superuser.eq(True))


async def test_two_superusers_cannot_remove_each_other_at_once(
    db: Engine, administrator: User
) -> None:
    await User.create_user(
        "bea@example.com", "a password of bea's", is_superuser=True, is_approved=True
    )

    async def disable(email: str) -> None:
        async with db.transaction():
            await User.update({User.is_disabled: True}).where(User.email == email)
            await asyncio.sleep(0.1)

    results = await asyncio.gather(
        disable("ada@example.com"), disable("bea@example.com"), return_exceptions=True
    )
    assert [type(result) for result in results].count(asyncpg.CheckViolationError) == 1
    assert await User.count().where(User.is_disabled.eq(False)) == 1


@pytest.mark.parametrize(
    "change",
    [
        "password_hash = 'another'",
        "is_disabled = true",
        "is_approved = false",
        "is_admin = false",
        "is_superuser = false",
    ],
)
async def test_lost_trust_ends_sessions(db: Engine, administrator: User, change: str) -> None:
    rights = {"is_admin": True, "is_superuser": True, "is_approved": True}
    person = await User.create_user("cy@example.com", "a password of cy's", **rights)
    session = await Session.create_session(person.id)
    await db.run_ddl(f"UPDATE users SET display_name = 'Cy' WHERE id = {person.id}")
    assert await Session.get_user_id(session.token) == person.id
    await db.run_ddl(f"UPDATE users SET {change} WHERE id = {person.id}")
    assert await Session.count() == 0


async def test_a_better_hash_is_no_other_password(db: Engine, member: User) -> None:
    session = await Session.create_session(member.id)
    weak = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash(PASSWORD)
    await db.run_ddl("ALTER TABLE users DISABLE TRIGGER end_sessions")
    await db.fetch("UPDATE users SET password_hash = $1 WHERE id = $2", weak, member.id)
    await db.run_ddl("ALTER TABLE users ENABLE TRIGGER end_sessions")
    assert await User.login(member.email, PASSWORD) == member.id
    [stored] = await User.select(User.password_hash).where(User.id == member.id)
    assert stored["password_hash"] != weak
    assert await Session.get_user_id(session.token) == member.id


async def attempt(client: httpx.AsyncClient, email: str, password: str) -> httpx.Response:
    return await client.post("/api/sign-in", json={"email": email, "password": password})


@pytest.mark.parametrize("email", ["mel@example.com", "nobody@example.com"])
async def test_an_account_waits_after_five_failures(
    client: httpx.AsyncClient, member: User, db: Engine, email: str
) -> None:
    for _ in range(5):
        assert (await attempt(client, email, "wrong password")).status_code == 401
    assert (await AuditLog.count().where(AuditLog.action == "sign_in.failed")) == 5
    for _ in range(5):  # five more, so that the wait outlasts this test
        await record(piccolo_conf.DB, "sign_in.failed", "sign_in", email)
    throttled = await attempt(client, email, PASSWORD)
    assert throttled.status_code == 429
    assert 20 < int(throttled.headers["retry-after"]) <= 32
    for _ in range(20):
        assert (await attempt(client, email, PASSWORD)).status_code == 429
    failed = AuditLog.count().where(AuditLog.action == "sign_in.failed")
    told = AuditLog.count().where(AuditLog.action == "sign_in.throttled")
    assert (await failed, await told) == (10, 1)
    assert (await sign_in(client, email)).status_code == 429  # the back office, too


async def test_a_success_ends_the_count(client: httpx.AsyncClient, member: User) -> None:
    for _ in range(3):
        for _ in range(4):
            assert (await attempt(client, member.email, "wrong password")).status_code == 401
        assert (await attempt(client, member.email, PASSWORD)).status_code == 200


async def test_an_address_waits_after_twenty_failures(
    client: httpx.AsyncClient, member: User
) -> None:
    for number in range(20):
        assert (await attempt(client, f"p{number}@x.com", "wrong password")).status_code == 401
    throttled = await attempt(client, member.email, PASSWORD)
    assert throttled.status_code == 429
    assert 290 < int(throttled.headers["retry-after"]) <= 300


async def test_the_fifth_failure_makes_an_account_wait_and_no_wait_is_longer_than_15_minutes(
    client: httpx.AsyncClient, member: User, db: Engine
) -> None:
    failed = """
        INSERT INTO audit_logs (action, resource, resource_id, created_at)
        SELECT 'sign_in.failed', 'sign_in', $1, now() + interval '1 hour'
        FROM generate_series(1, $2)
    """  # an hour ahead: whatever follows the last failure lies there, however slow this test is
    await db.fetch(failed, member.email, 4)
    assert (await attempt(client, member.email, "wrong password")).status_code == 401
    throttled = await attempt(client, member.email, PASSWORD)
    assert throttled.status_code == 429
    assert 3_000 < int(throttled.headers["retry-after"]) <= 3_601
    await db.fetch(failed, "nobody@example.com", 40)
    throttled = await attempt(client, "nobody@example.com", PASSWORD)
    assert 3_600 < int(throttled.headers["retry-after"]) <= 4_500
