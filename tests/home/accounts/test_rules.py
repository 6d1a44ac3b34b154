"""Rules that hold whatever way a change takes, and sign-ins that fail too often."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta

import asyncpg
import httpx
import pytest
from argon2 import PasswordHasher
from starlette.applications import Starlette

from audit.context import Actor, acting_as
from audit.record import record
from audit.tables import AuditLog
from home.accounts import throttle
from home.database.engine import Engine
from home.tables import Session, User
from piccolo_conf import DB
from tests.conftest import PASSWORD, browser, enter, sign_in


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
        "email = 'cyra@example.com'",
        "is_disabled = true",
        "is_approved = false",
        "is_admin = false",
        "is_superuser = true",
        "is_auditor = false",
    ],
)
async def test_another_password_address_or_right_ends_sessions(
    db: Engine, administrator: User, change: str
) -> None:
    rights = {"is_admin": True, "is_auditor": True, "is_approved": True}
    person = await User.create_user("cy@example.com", "a password of cy's", **rights)
    session = await Session.create_session(person.id)
    await db.run_ddl(f"UPDATE users SET display_name = 'Cy' WHERE id = {person.id}")
    assert await Session.get_user_id(session.token) == person.id
    await db.run_ddl(f"UPDATE users SET {change} WHERE id = {person.id}")
    assert await Session.count() == 0


@pytest.mark.parametrize("right", ["is_admin", "is_superuser", "is_auditor"])
async def test_whoever_is_promoted_has_to_sign_in_again(
    db: Engine, member: User, right: str
) -> None:
    session = await Session.create_session(member.id)
    also = ", is_admin = true" if right == "is_superuser" else ""
    await db.execute(f"UPDATE users SET {right} = true{also} WHERE id = $1", member.id)
    assert await Session.get_user_id(session.token) is None


async def test_nobody_makes_themselves_an_auditor(db: Engine, administrator: User) -> None:
    bea = await User.create_user(
        "bea@example.com", "a password of bea's", is_superuser=True, is_approved=True
    )
    appoint = User.update({User.is_auditor: True}).where(User.id == administrator.id)
    herself = acting_as(Actor("ada@example.com", administrator.id))
    with herself, pytest.raises(asyncpg.CheckViolationError) as refused:
        await appoint
    assert refused.value.constraint_name == "users_no_self_appointment"
    with acting_as(Actor("bea@example.com", bea.id)):
        await appoint
    rename = User.update({User.display_name: "Ada"}).where(User.id == administrator.id)
    with acting_as(Actor("ada@example.com", administrator.id)):
        await rename  # who is one already changes other things
    row = await AuditLog.select().where(AuditLog.action == "users.update").order_by(AuditLog.id)
    assert (row[0]["actor"], '"is_auditor": true' in row[0]["details"]) == ("bea@example.com", True)


async def test_another_second_factor_ends_sessions(db: Engine, member: User) -> None:
    await Session.create_session(member.id)
    for change in (
        "INSERT INTO authenticator_secrets (user_id, secret, recovery_codes)"
        " VALUES ($1, 'x', '{}')",
        "UPDATE authenticator_secrets SET secret = 'y' WHERE user_id = $1",
        "DELETE FROM authenticator_secrets WHERE user_id = $1",
    ):
        await Session.create_session(member.id)
        await db.execute(change, member.id)
        assert await Session.count() == 0, change


async def test_superusers_are_administrators(db: Engine, administrator: User) -> None:
    with pytest.raises(asyncpg.CheckViolationError) as refused:
        await db.execute("UPDATE users SET is_admin = false")
    assert refused.value.constraint_name == "users_superuser_is_admin"
    await User.create_user("bea@example.com", "a password of bea's", is_superuser=True)
    bea = await User.objects().where(User.email == "bea@example.com").first()
    assert bea is not None
    assert bea.is_admin


async def test_the_only_superuser_cannot_give_the_back_office_away(
    client: httpx.AsyncClient, administrator: User
) -> None:
    await sign_in(client, administrator.email)
    path = f"/admin/api/tables/users/{administrator.id}/"
    for change in ({"is_admin": False}, {"is_admin": False, "is_superuser": False}):
        answer = await client.patch(path, json=change)
        assert answer.status_code in (409, 422), answer.text
        assert "superuser" in answer.text
    assert (await client.get("/admin/api/tables/")).status_code == 200


async def test_an_approver_that_is_given_stays(db: Engine, administrator: User) -> None:
    new = await User.create_user("new@example.com", PASSWORD)
    approve = "UPDATE users SET is_approved = true, approved_by = $1 WHERE id = $2"
    with pytest.raises(asyncpg.CheckViolationError) as refused:
        await db.execute(approve, new.id, new.id)
    assert refused.value.constraint_name == "users_no_self_approval"
    await db.execute(approve, administrator.id, new.id)
    stored = "SELECT approved_by, approved_at IS NOT NULL AS has_time FROM users WHERE id = $1"
    row = await db.fetchrow(stored, new.id)
    assert row is not None
    assert tuple(row) == (administrator.id, True)
    bea = await User.create_user("bea@example.com", PASSWORD, is_admin=True, is_approved=True)
    await db.execute("UPDATE users SET is_approved = false WHERE id = $1", new.id)
    with acting_as(Actor(bea.email, bea.id)):  # whoever is known to act is who approves
        await db.execute(approve, administrator.id, new.id)
    row = await db.fetchrow(stored, new.id)
    assert row is not None
    assert row["approved_by"] == bea.id


async def test_a_better_hash_is_no_other_password(
    hasher_of_everybody: None, db: Engine, member: User
) -> None:
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
        await record(DB, "sign_in.failed", "sign_in", email)
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


async def test_what_is_no_address_is_not_recorded(client: httpx.AsyncClient) -> None:
    """It may be a password, typed into the wrong field."""
    body = {"email": "MyS3cret-Passw0rd", "password": "x"}
    assert (await client.post("/api/sign-in", json=body)).status_code == 401
    rows = await AuditLog.select(AuditLog.resource_id, AuditLog.details)
    assert rows[-1]["resource_id"] == "(no address)"
    assert "s3cret" not in str(rows).lower()


@pytest.mark.parametrize("hidden", ["\u200b", "\u00ad", "\u202e", "\u2060", "\ufeff"])
async def test_addresses_and_names_hide_nothing(
    client: httpx.AsyncClient, member: User, hidden: str
) -> None:
    body = {"email": f"mel{hidden}@example.com", "password": PASSWORD}
    answer = await client.post("/api/register", json=body)
    assert answer.json()["error"]["message"] == "This is not a valid e-mail address."
    await enter(client, member.email)
    answer = await client.patch("/api/me", json={"display_name": f"Mel{hidden}"})
    assert answer.status_code == 422


async def test_a_wide_letter_is_the_letter(client: httpx.AsyncClient, member: User) -> None:
    body = {"email": "\uff4del@example.com", "password": PASSWORD}
    assert (await client.post("/api/sign-in", json=body)).status_code == 200


async def test_an_address_waits_after_twenty_failures(
    client: httpx.AsyncClient, member: User
) -> None:
    for number in range(20):
        assert (await attempt(client, f"p{number}@x.com", "wrong password")).status_code == 401
    throttled = await attempt(client, member.email, PASSWORD)
    assert throttled.status_code == 429
    assert 0 < int(throttled.headers["retry-after"]) <= 300  # less what the failures took


AHEAD = """
    INSERT INTO audit_logs (action, resource, resource_id, details, created_at)
    SELECT $1, 'sign_in', $2, jsonb_build_object('network', $3::text), now() + $4::interval
    FROM generate_series(1, $5)
"""
HALF_A_MINUTE, TEN_YEARS = timedelta(seconds=30), timedelta(days=3650)


async def test_the_fifth_failure_makes_an_account_wait_and_no_wait_is_longer_than_its_limit(
    client: httpx.AsyncClient, member: User, db: Engine
) -> None:
    """What lies a little ahead counts as of now, so that the waits do not depend on how slow this
    test is."""

    async def failed(email: str, times: int, network: str = "192.0.2.1") -> None:
        await db.execute(AHEAD, "sign_in.failed", email, network, HALF_A_MINUTE, times)

    async def waits(email: str) -> str:
        throttled = await attempt(client, email, PASSWORD)
        assert throttled.status_code == 429
        return throttled.headers["retry-after"]

    await failed(member.email, 4)
    assert (await attempt(client, member.email, "wrong password")).status_code == 401
    assert await waits(member.email) == "1"
    await failed("nobody@example.com", 40)
    assert await waits("nobody@example.com") == "900"
    await failed("others@example.com", 20, "127.0.0.1")
    assert await waits("somebody@example.com") == "300"
    await db.execute(AHEAD, "register.requested", "x", "127.0.0.1", HALF_A_MINUTE, 20)
    body = {"email": "new@example.com", "password": PASSWORD}
    refused = await client.post("/api/register", json=body)
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "3600")


async def test_what_a_clock_that_was_ahead_has_left_makes_nobody_wait(
    client: httpx.AsyncClient, member: User, db: Engine
) -> None:
    for action in ("sign_in.failed", "sign_in.throttled", "register.requested"):
        await db.execute(AHEAD, action, member.email, "127.0.0.1", TEN_YEARS, 40)
    assert (await attempt(client, member.email, PASSWORD)).status_code == 200
    body = {"email": "new@example.com", "password": PASSWORD}
    assert (await client.post("/api/register", json=body)).status_code == 202
    for _ in range(5):
        await record(DB, "sign_in.failed", "sign_in", member.email)
    client.cookies.clear()
    assert (await attempt(client, member.email, PASSWORD)).status_code == 429
    told = "SELECT count(*) FROM audit_logs WHERE action = 'sign_in.throttled'"
    assert await db.fetchval(told) == 41, "nobody was told of it"


async def test_attempts_at_one_account_are_decided_one_after_the_other(db: Engine) -> None:
    attempt = throttle.attempt_at("mel@example.com")

    async def fail() -> None:
        async with throttle.turn(db, attempt):
            await asyncio.sleep(0.02)  # others would read the same number of failures
            await record(DB, "sign_in.failed", "sign_in", attempt.account, attempt.details())

    results = await asyncio.gather(*[fail() for _ in range(8)], return_exceptions=True)
    assert [type(result) for result in results].count(throttle.Throttled) == 3


async def test_a_stranger_does_not_lock_the_owner_out(app: Starlette, member: User) -> None:
    async with browser(app) as mel, browser(app, "203.0.113.9") as stranger:
        assert (await attempt(mel, member.email, PASSWORD)).status_code == 200
        for _ in range(5):
            assert (await attempt(stranger, member.email, "a guess")).status_code == 401
        for _ in range(15):  # the address of both is full, too
            await record(
                DB,
                "sign_in.failed",
                "sign_in",
                "x@example.com",
                {"network": "127.0.0.1"},
            )
            await record(DB, "sign_in.failed", "sign_in", member.email, {"network": "127.0.0.1"})
        assert (await attempt(stranger, member.email, PASSWORD)).status_code == 429
        assert (await attempt(mel, member.email, PASSWORD)).status_code == 200
        assert (await attempt(stranger, member.email, PASSWORD)).status_code == 429
        for _ in range(5):
            assert (await attempt(mel, member.email, "a typo")).status_code == 401
        assert (await attempt(mel, member.email, PASSWORD)).status_code == 429


async def test_a_device_is_known_to_one_account_under_one_password(
    app: Starlette, member: User
) -> None:
    await User.create_user("pat@example.com", PASSWORD, is_approved=True)
    async with browser(app) as mel:
        answer = await attempt(mel, member.email, PASSWORD)
        [cookie] = [c for c in answer.headers.get_list("set-cookie") if c.startswith("device=")]
        assert "HttpOnly" in cookie
        assert "Domain" not in cookie
        for _ in range(10):
            for email in ("pat@example.com", member.email):
                await record(DB, "sign_in.failed", "sign_in", email)
        assert (await attempt(mel, "pat@example.com", PASSWORD)).status_code == 429
        known = mel.cookies["device"]
        mel.cookies.set("device", known[:-1] + ("A" if known[-1] != "A" else "E"))
        assert (await attempt(mel, member.email, PASSWORD)).status_code == 429
        mel.cookies.clear()
        mel.cookies.set("device", known)
        assert (await attempt(mel, member.email, PASSWORD)).status_code == 200
        await User.update_password(member.id, "another password")
        assert (await attempt(mel, member.email, "another password")).status_code == 429


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("203.0.113.9", "203.0.113.9"),
        ("::ffff:203.0.113.9", "203.0.113.9"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        (None, None),
        ("unix", "unix"),
    ],
)
def test_what_counts_as_one_address(address: str | None, network: str | None) -> None:
    assert throttle.network_of(address) == network


async def test_a_site_with_many_ipv6_addresses_is_one(app: Starlette, member: User) -> None:
    for number in range(20):
        async with browser(app, f"2001:db8::{number + 1:x}") as guest:
            assert (await attempt(guest, f"p{number}@x.com", "a guess")).status_code == 401
    async with browser(app, "2001:db8::ffff:1") as guest:
        assert (await attempt(guest, member.email, PASSWORD)).status_code == 429
    async with browser(app, "2001:db8:0:1::1") as neighbour:
        assert (await attempt(neighbour, member.email, PASSWORD)).status_code == 200


async def test_a_flood_is_recorded_once_a_minute_with_its_size(
    client: httpx.AsyncClient, member: User, db: Engine
) -> None:
    throttle.refused.clear()
    for _ in range(20):
        await record(DB, "sign_in.failed", "sign_in", "x@example.com", {"network": "127.0.0.1"})
    assert (await attempt(client, member.email, PASSWORD)).status_code == 429
    emails = [f"p{number}@example.com" for number in range(29)]
    answers = await asyncio.gather(*[attempt(client, email, PASSWORD) for email in emails])
    assert {answer.status_code for answer in answers} == {429}
    rows = "SELECT details FROM audit_logs WHERE action = 'sign_in.throttled' ORDER BY id"
    [first] = [json.loads(row["details"]) for row in await db.fetch(rows)]
    assert first["network"] == "127.0.0.1"
    await db.execute("ALTER TABLE audit_logs RENAME TO elsewhere")
    with pytest.raises(asyncpg.UndefinedTableError):
        await throttle.report_refused(DB)
    await db.execute("ALTER TABLE elsewhere RENAME TO audit_logs")
    await throttle.report_refused(DB)
    await throttle.report_refused(DB)
    _, rest = [json.loads(row["details"]) for row in await db.fetch(rows)]
    assert first["attempts"] + rest["attempts"] == 30
    assert rest["addresses"] == 1


async def test_requests_for_an_account_are_limited_for_each_address(
    app: Starlette, member: User
) -> None:
    async def ask(client: httpx.AsyncClient, number: int) -> httpx.Response:
        body = {"email": f"p{number}@example.com", "password": "a fine password"}
        return await client.post("/api/register", json=body)

    async with browser(app) as client, browser(app, "203.0.113.9") as neighbour:
        answers = await asyncio.gather(*[ask(client, number) for number in range(40)])
        refused = [answer for answer in answers if answer.status_code == 429]
        assert len(refused) == 40 - throttle.REGISTRATIONS
        assert 3_500 < int(refused[0].headers["retry-after"]) <= 3_600
        page = await client.post("/register", data={"email": "x@y", "password": "a fine password"})
        assert (page.status_code, "Try again in" in page.text) == (429, True)
        assert (await ask(neighbour, 99)).status_code == 202


async def test_no_other_conflict_reads_as_an_address_that_is_taken(
    client: httpx.AsyncClient, member: User, db: Engine
) -> None:
    await db.execute("SELECT setval(pg_get_serial_sequence('users', 'id'), $1, false)", member.id)
    body = {"email": "new@example.com", "password": "a fine password"}
    answer = await client.post("/api/register", json=body)
    assert answer.status_code == 409, "nothing was stored"
    assert not await AuditLog.exists().where(AuditLog.action == "register.repeated")
