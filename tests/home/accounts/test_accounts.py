"""Who gets in, and what the tables know of them."""

from __future__ import annotations

import asyncio
import hashlib
import os
import sys
import threading
from contextlib import AsyncExitStack
from typing import Any

import asyncpg
import httpx
import pytest
from argon2 import PasswordHasher, extract_parameters
from piccolo.apps.user.tables import BaseUser

from audit.errors import DatabaseUnavailable
from audit.record import record
from audit.tables import AuditLog
from home.accounts import credentials, passwords
from home.accounts.hashing_queue import Purpose
from home.database.connection_queue import ConnectionQueue
from home.database.engine import Engine
from home.tables import Session, User
from piccolo_conf import DB
from tests.conftest import PASSWORD, sign_in

pytestmark = pytest.mark.any_version

MEL = {"email": "mel@example.com", "password": PASSWORD}


async def test_signing_in_stores_a_digest_and_never_the_token(
    client: httpx.AsyncClient, administrator: User
) -> None:
    answer = await sign_in(client, "ada@example.com")
    assert answer.status_code == 200
    token = client.cookies["id"]
    rows = await Session.select()
    assert [row["sid"] for row in rows] == [hashlib.sha256(token.encode()).hexdigest()]
    assert token not in repr(rows)


async def test_the_digest_opens_nothing(client: httpx.AsyncClient, administrator: User) -> None:
    await sign_in(client, "ada@example.com")
    assert (await client.get("/admin/api/tables/")).status_code == 200
    [digest] = await Session.select(Session.sid).output(as_list=True)
    client.cookies.clear()
    stolen = {"cookie": f"id={digest}"}
    assert (await client.get("/admin/api/tables/", headers=stolen)).status_code == 401


async def test_signing_out_ends_the_session(client: httpx.AsyncClient, administrator: User) -> None:
    await sign_in(client, "ada@example.com")
    token = client.cookies["id"]
    assert (await client.post("/admin/public/logout/")).status_code == 200
    assert await Session.get_user_id(token) is None


@pytest.mark.parametrize(
    ("email", "password"),
    [
        ("ada@example.com", "wrong password, long"),
        ("nobody@example.com", PASSWORD),
        ("ada@example.com\x00", PASSWORD),
        ("a" * 300, PASSWORD),
        ("ada@example.com", "p" * 10_000),
    ],
)
async def test_wrong_credentials_are_refused(
    client: httpx.AsyncClient, administrator: User, email: str, password: str
) -> None:
    assert (await sign_in(client, email, password)).status_code == 401


@pytest.mark.parametrize(
    ("column", "code"), [("is_approved", "awaiting_approval"), ("is_disabled", "account_disabled")]
)
async def test_unapproved_and_disabled_people_stay_out_and_are_told_why(
    client: httpx.AsyncClient, administrator: User, column: str, code: str
) -> None:
    await User.create_user("bea@example.com", PASSWORD, is_superuser=True, is_approved=True)
    await User.update({column: column == "is_disabled"}).where(User.id == administrator.id)
    answer = await sign_in(client, "ada@example.com")
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, code)
    wrong = await sign_in(client, "ada@example.com", "another wrong password")
    assert wrong.status_code == 401
    assert not await Session.exists()


async def test_disabling_someone_ends_their_access_at_the_next_request(
    client: httpx.AsyncClient, administrator: User
) -> None:
    await User.create_user("bea@example.com", PASSWORD, is_superuser=True, is_approved=True)
    await sign_in(client, "ada@example.com")
    await User.update({User.is_disabled: True}).where(User.id == administrator.id)
    assert (await client.get("/admin/api/tables/")).status_code == 401


async def test_a_member_is_no_administrator(client: httpx.AsyncClient, member: User) -> None:
    await sign_in(client, "mel@example.com")
    assert (await client.get("/admin/api/tables/")).status_code == 401


async def test_case_and_spaces_of_an_address_do_not_matter(db: object) -> None:
    await User.create_user(" Ada@Example.com ", PASSWORD, is_approved=True)
    assert await User.login("ADA@example.COM ", PASSWORD) is not None
    with pytest.raises(asyncpg.UniqueViolationError):
        await User.create_user("ada@EXAMPLE.com", PASSWORD)


async def test_a_password_that_begins_like_a_hash_is_a_password(db: object) -> None:
    password = "$argon2id$v=19$m=19456,t=2,p=1$no"
    await User.create_user("ada@example.com", password, is_approved=True)
    assert await User.login("ada@example.com", password) is not None
    stored = await User.select(User.password_hash).first()
    assert stored is not None
    assert stored["password_hash"] != password


async def test_an_account_without_a_password_cannot_sign_in(db: object) -> None:
    await User.create_user("external@example.com", PASSWORD, is_approved=True)
    await User.update({User.password_hash: ""}, force=True)
    for attempt in ("", "no account has this password"):
        assert await User.login("external@example.com", attempt) is None


async def test_saving_a_loaded_user_keeps_the_password(administrator: User) -> None:
    user = await User.objects().first()
    assert user is not None
    user.display_name = "Ada L."
    await user.save()
    assert await User.login("ada@example.com", PASSWORD) is not None


async def test_changing_the_password_in_the_admin(
    client: httpx.AsyncClient, administrator: User
) -> None:
    await sign_in(client, "ada@example.com")
    new = "a much better password"
    names = ("current_password", "new_password", "confirm_new_password")
    body = dict(zip(names, (PASSWORD, new, new), strict=True))
    answer = await client.post("/admin/api/change-password/", json=body)
    assert answer.status_code == 303
    assert await User.login("ada@example.com", PASSWORD) is None
    assert await User.login("ada@example.com", new) is not None


@pytest.mark.parametrize(
    ("password", "is_admin"),
    [
        ("seven c", False),
        ("x" * 129, False),
        ("x" * 129, True),
        ("fourteen chars", True),
        ("\x00" * 9, False),
        ("Football1", False),
        ("11234567", False),  # the last one of the list
    ],
)
def test_passwords_that_break_a_rule(password: str, is_admin: bool) -> None:
    with pytest.raises(passwords.PasswordRefused):
        passwords.check(password, is_admin=is_admin)


@pytest.mark.parametrize(
    ("password", "is_admin"),
    [("eight ch", False), ("fifteen charact", True), ("x" * 128, False), ("x" * 128, True)],
)
def test_passwords_that_just_keep_to_the_rules(password: str, is_admin: bool) -> None:
    passwords.check(password, is_admin=is_admin)


@pytest.mark.parametrize("right", ["is_admin", "is_superuser"])
async def test_whoever_has_rights_needs_the_longer_password(db: Engine, right: str) -> None:
    with pytest.raises(passwords.PasswordRefused):
        await User.create_user("cy@example.com", "fourteen chars", **{right: True})
    cy = await User.create_user("cy@example.com", PASSWORD, is_approved=True, **{right: True})
    with pytest.raises(passwords.PasswordRefused):
        await User.update_password(cy.id, "fourteen chars")
    assert await User.login("cy@example.com", PASSWORD) == cy.id


async def test_put_and_post_on_users_are_denied(
    client: httpx.AsyncClient, administrator: User
) -> None:
    await sign_in(client, "ada@example.com")
    row = {"email": "eve@example.com", "password_hash": "plain", "is_admin": True}
    assert (await client.post("/admin/api/tables/users/", json=row)).status_code == 403
    path = f"/admin/api/tables/users/{administrator.id}/"
    assert (await client.put(path, json=row)).status_code == 403
    assert await User.select(User.email).output(as_list=True) == ["ada@example.com"]


async def test_a_password_hash_is_neither_shown_nor_set(
    client: httpx.AsyncClient, administrator: User
) -> None:
    await sign_in(client, "ada@example.com")
    path = f"/admin/api/tables/users/{administrator.id}/"
    shown = (await client.get(path)).text + (await client.get("/admin/api/tables/users/")).text
    assert "$argon2id$" not in shown
    assert (await client.patch(path, json={"password_hash": "plain"})).status_code == 422
    assert (await client.patch(path, json={"display_name": "Ada L."})).status_code == 200
    assert await User.login("ada@example.com", PASSWORD) is not None


@pytest.mark.parametrize("table", ["audit_logs", "audit_seals", "sync_history", "sessions"])
async def test_records_cannot_be_written_in_the_admin(
    client: httpx.AsyncClient, administrator: User, table: str
) -> None:
    await sign_in(client, "ada@example.com")
    path = f"/admin/api/tables/{table}/"
    assert (await client.post(path, json={})).status_code in (403, 422)
    assert (await client.put(f"{path}1/", json={})).status_code in (403, 404, 422)
    assert (await client.patch(f"{path}1/", json={"action": "x"})).status_code in (403, 404)


async def test_the_three_column_layout_of_other_programs(db: object, url: str) -> None:
    connection = await asyncpg.connect(url)
    sql = "INSERT INTO sessions (sid, sess, expire) VALUES ('x', '{}', now() + interval '1 hour')"
    await connection.execute(sql)
    await connection.execute(
        "UPDATE sessions SET expire = now(), sess = '{\"a\": 1}' WHERE sid = 'x'"
    )
    assert (
        await connection.fetchval("DELETE FROM sessions WHERE sid = 'x' RETURNING sess")
        == '{"a": 1}'
    )
    await connection.close()


@pytest.mark.parametrize("email", ["no at", "two@at@example.com", "a b@c", "Upper@c", "e\x1b[1m@c"])
async def test_the_database_refuses_what_is_no_address(db: Engine, email: str) -> None:
    with pytest.raises(asyncpg.CheckViolationError):
        await db.fetch("INSERT INTO users (email, password_hash) VALUES ($1, '')", email)


async def test_stock_hashes_are_accepted_and_upgraded(
    client: httpx.AsyncClient, member: User
) -> None:
    stock = BaseUser.hash_password(PASSWORD, iterations=1_000)
    await User.update({User.password_hash: stock}).where(User.id == member.id)
    assert await User.login("mel@example.com", "another password") is None
    assert await User.login("mel@example.com", PASSWORD) == member.id
    [now] = await User.select(User.password_hash)
    assert now["password_hash"].startswith("$argon2id$")
    assert await User.login("mel@example.com", PASSWORD) == member.id


async def test_the_same_characters_are_the_same_password(db: object) -> None:
    composed, decomposed = "Müller's café", "Mu\u0308ller's cafe\u0301"
    await User.create_user("mel@example.com", composed, is_approved=True)
    assert await User.login("mel@example.com", decomposed) is not None


async def test_many_guesses_at_once_gain_nothing(client: httpx.AsyncClient, member: User) -> None:
    wrong = {"email": "mel@example.com", "password": "a wrong password"}
    answers = await asyncio.gather(*[client.post("/api/sign-in", json=wrong) for _ in range(30)])
    assert {answer.status_code for answer in answers} <= {401, 429, 503}
    [row] = await User.raw(COUNTED)
    assert row["failures"] >= 5
    assert row["too_early"] == 0, "as if one came after the other"


async def test_what_others_failed_while_a_password_was_hashed_counts(
    client: httpx.AsyncClient, member: User
) -> None:
    async with AsyncExitStack() as stack:
        for _ in range(passwords.HASHES_AT_ONCE):
            await stack.enter_async_context(passwords.hashing_queue().slot(Purpose.SIGN_IN))
        attempt = asyncio.create_task(client.post("/api/sign-in", json=MEL))
        while not passwords.hashing_queue().waiting:  # it was checked, and waits for its turn
            await asyncio.sleep(0.01)
        for _ in range(10):
            await record(DB, "sign_in.failed", "sign_in", "mel@example.com")
    assert (await attempt).status_code == 429
    assert not await Session.exists()


# Failures after the fifth, that came before the wait of the one before was over.
COUNTED = """
    SELECT count(*) AS failures, count(*) FILTER (
        WHERE number > 5 AND created_at - before < 2 ^ (number - 6) * interval '1 second'
    ) AS too_early
    FROM (
        SELECT created_at, row_number() OVER w AS number, lag(created_at) OVER w AS before
        FROM audit_logs WHERE action = 'sign_in.failed' WINDOW w AS (ORDER BY id)
    ) AS failed
"""


async def test_only_the_right_password_tells_something_after_the_same_work(
    client: httpx.AsyncClient, member: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    await User.create_user("waits@example.com", PASSWORD)
    await User.create_user("out@example.com", PASSWORD, is_approved=True, is_disabled=True)
    verify, work = PasswordHasher.verify, []

    def counted(self: PasswordHasher, stored: str, password: str) -> bool:
        work.append(extract_parameters(stored))
        return verify(self, stored, password)

    async def answer_to(name: str, password: str) -> tuple[Any, ...]:
        body = {"email": f"{name}@example.com", "password": password}
        answer = await client.post("/api/sign-in", json=body)
        del answer.headers["x-request-id"]
        return answer.status_code, dict(answer.headers), answer.json()

    monkeypatch.setattr(PasswordHasher, "verify", counted)
    wrong = "a wrong password"
    attempts = [("mel", wrong), ("nobody", PASSWORD), ("waits", wrong), ("out", wrong)]
    answers = [await answer_to(*attempt) for attempt in attempts]
    assert answers == [answers[0]] * 4
    assert answers[0][0] == 401
    statements = len(await AuditLog.select())
    told = [await answer_to(name, PASSWORD) for name in ("waits", "out")]
    assert [(each[0], each[2]["error"]["code"]) for each in told] == [
        (403, "awaiting_approval"),
        (403, "account_disabled"),
    ]
    assert len(await AuditLog.select()) == statements + 2
    assert work == [work[0]] * 6
    failed = await AuditLog.select().where(AuditLog.action == "sign_in.failed")
    assert len(failed) == 6
    assert not await Session.exists()


async def test_how_passwords_are_hashed(hasher_of_everybody: None, member: User) -> None:
    [stored] = await User.select(User.password_hash)
    assert stored["password_hash"].startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    cores = os.cpu_count() or 1
    # One core is left for the rest.
    assert passwords.hashing_queue().size == {1: 1, 2: 1}.get(cores, 2)


@pytest.mark.skipif(sys.platform != "linux", reason="only there threads have priorities")
async def test_threads_that_hash_let_everything_else_go_first() -> None:
    def priority() -> int:
        return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    threads = passwords._threads()
    assert await asyncio.get_running_loop().run_in_executor(threads, priority) > priority()


async def test_too_many_at_once_are_told_to_come_back(
    client: httpx.AsyncClient, member: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = passwords.hashing_queue()
    monkeypatch.setattr(queue, "longest", 0)
    forms = {"/sign-in": MEL, "/register": {"email": "n@x.com", "password": PASSWORD}}
    async with AsyncExitStack() as stack:
        for _ in range(queue.size):
            await stack.enter_async_context(queue.slot(Purpose.SIGN_IN))
        for path, form in forms.items():
            for answer in (
                await client.post(f"/api{path}", json=form),
                await client.post(path, data=form),
            ):
                assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
                assert "Try again in a few seconds" in answer.text
    assert not await AuditLog.exists().where(AuditLog.action == "sign_in.failed")
    assert (await client.post("/api/sign-in", json=MEL)).status_code == 200


async def test_a_hash_that_was_replaced_meanwhile_is_not_stored_again(member: User) -> None:
    stock = BaseUser.hash_password(PASSWORD, iterations=1_000)
    await User.update({User.password_hash: stock}).where(User.id == member.id)
    async with AsyncExitStack() as stack:
        for _ in range(passwords.HASHES_AT_ONCE):
            await stack.enter_async_context(passwords.hashing_queue().slot(Purpose.SIGN_IN))
        attempt = asyncio.create_task(User.login("mel@example.com", PASSWORD))
        while not passwords.hashing_queue().waiting:
            await asyncio.sleep(0.01)
        await User.update({User.password_hash: "another"}).where(User.id == member.id)
    await attempt
    [row] = await User.select(User.password_hash)
    assert row["password_hash"] == "another"


async def test_a_flood_of_sign_ins_leaves_connections_to_others(
    db: Engine, member: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = ConnectionQueue(credentials.LOOKUPS_AT_ONCE, 0.2)
    monkeypatch.setattr(credentials, "_lookups", lambda: queue)
    silent, looking = asyncio.Event(), 0

    async def find(*arguments: object) -> None:
        nonlocal looking
        looking += 1
        await silent.wait()

    monkeypatch.setattr(credentials, "_find", find)
    flood = [
        asyncio.create_task(credentials.verify_password(db, member.email, PASSWORD))
        for _ in range(20)
    ]
    waiting = asyncio.gather(*flood[credentials.LOOKUPS_AT_ONCE :], return_exceptions=True)
    late = await asyncio.wait_for(waiting, 10)
    assert {type(each) for each in late} == {DatabaseUnavailable}, "nobody waits for ever"
    assert looking == credentials.LOOKUPS_AT_ONCE
    silent.set()
    found = await asyncio.gather(*flood[: credentials.LOOKUPS_AT_ONCE], return_exceptions=True)
    assert {type(each) for each in found} == {credentials.SignInFailed}
