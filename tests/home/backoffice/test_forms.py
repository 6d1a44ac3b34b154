"""What administrators do with people, and what they may not."""

from __future__ import annotations

import re
from typing import Any

import httpx
import pytest

import piccolo_conf
from audit.record import record
from audit.tables import AuditLog
from home.accounts.authenticator import AuthenticatorSecret
from home.database.engine import Engine
from home.tables import Session, User
from tests.conftest import PASSWORD, sign_in

pytestmark = pytest.mark.any_version


async def send(client: httpx.AsyncClient, form: str, **data: Any) -> tuple[int, str]:
    """Status and sentence."""
    answer = await client.post(f"/admin/api/forms/{form}/", json=data)
    told = answer.json()
    return answer.status_code, next(iter(told.values())) if isinstance(told, dict) else told


@pytest.fixture
async def ada(client: httpx.AsyncClient, administrator: User) -> httpx.AsyncClient:
    """Ada's browser."""
    await sign_in(client, "ada@example.com")
    return client


@pytest.fixture
async def olga(client: httpx.AsyncClient, administrator: User) -> httpx.AsyncClient:
    """Olga's browser: an administrator, but no superuser."""
    await User.create_user("olga@example.com", PASSWORD, is_admin=True, is_approved=True)
    await sign_in(client, "olga@example.com")
    return client


async def state_of(email: str) -> tuple[bool, bool]:
    """Whether approved, whether disabled."""
    person = await User.objects().where(User.email == email).first()
    assert person is not None
    return person.is_approved, person.is_disabled


async def test_a_request_is_approved_and_the_trail_says_by_whom(
    olga: httpx.AsyncClient,
) -> None:
    await User.create_user("eve@example.com", PASSWORD)
    status, told = await send(olga, "approve-a-person", email="Eve@example.com ")
    assert (status, told) == (200, "eve@example.com is approved and can sign in.")
    eve = await User.objects(User.approved_by).where(User.email == "eve@example.com").first()
    assert eve is not None
    assert eve.approved_by.email == "olga@example.com"
    [row] = await AuditLog.select().where(AuditLog.action == "users.update")
    assert (row["actor"], row["is_admin_action"]) == ("olga@example.com", True)
    _, again = await send(olga, "approve-a-person", email="eve@example.com")
    assert again.startswith("Nothing to do")


@pytest.mark.parametrize(
    ("form", "after"),
    [("reject", (False, True)), ("disable", (True, True)), ("revoke-sessions", (True, False))],
)
async def test_sessions_end_with_the_decision(
    olga: httpx.AsyncClient, member: User, form: str, after: tuple[bool, bool]
) -> None:
    await Session.create_session(member.id)
    name = form if "-" in form else f"{form}-a-person"
    assert (await send(olga, name, email=member.email))[0] == 200
    assert await state_of(member.email) == after
    assert not await Session.exists().where(Session.user_id == member.id)


async def test_disabling_is_reversible(olga: httpx.AsyncClient, member: User) -> None:
    await send(olga, "disable-a-person", email=member.email)
    await send(olga, "enable-a-person", email=member.email)
    assert await state_of(member.email) == (True, False)


@pytest.mark.parametrize(
    "form",
    [
        "approve-a-person", "reject-a-person", "disable-a-person", "enable-a-person",
        "revoke-sessions", "remove-a-second-factor", "give-a-new-password",
    ],
)  # fmt: skip
async def test_only_superusers_decide_about_administrators(
    olga: httpx.AsyncClient, form: str
) -> None:
    before = await User.select().order_by(User.id)
    status, told = await send(olga, form, email="ada@example.com")
    assert (status, "superusers" in told) == (422, True)
    assert await User.select().order_by(User.id) == before


async def test_the_last_superuser_stays(ada: httpx.AsyncClient) -> None:
    for form in ("disable-a-person", "reject-a-person"):
        status, told = await send(ada, form, email="ada@example.com")
        assert (status, "last active superuser" in told) == (422, True)
    assert await state_of("ada@example.com") == (True, False)


async def test_a_person_is_created_with_a_password_that_is_told_once(
    ada: httpx.AsyncClient,
) -> None:
    status, told = await send(ada, "create-a-person", email="New@example.com", is_admin=True)
    assert status == 200
    password = told.rsplit(" ", 1)[1]
    assert await User.login("new@example.com", password) is not None
    assert password not in repr(await AuditLog.select())
    new = await User.objects(User.approved_by).where(User.email == "new@example.com").first()
    assert new is not None
    assert new.approved_by.email == "ada@example.com"
    status, told = await send(ada, "create-a-person", email="new@example.com")
    assert (status, told) == (422, "There is already an account with this e-mail address.")


@pytest.mark.parametrize("email", ["nobody", "a\x00@b", "", "x" * 300, None, 7])
async def test_bad_addresses_get_a_sentence(ada: httpx.AsyncClient, email: Any) -> None:
    for form in ("create-a-person", "approve-a-person"):
        status, _ = await send(ada, form, email=email)
        assert status == 422


@pytest.mark.parametrize("body", [b"[1]", b"null", b"{", b'{"email": NaN}', b"\xff"])
async def test_bad_bodies_get_an_answer(ada: httpx.AsyncClient, body: bytes) -> None:
    answer = await ada.post("/admin/api/forms/approve-a-person/", content=body)
    assert answer.status_code == 422


async def test_only_superusers_appoint_administrators(olga: httpx.AsyncClient) -> None:
    for right in ("is_admin", "is_superuser"):
        status, _ = await send(olga, "create-a-person", email="x@example.com", **{right: True})
        assert status == 422
    assert not await User.exists().where(User.email == "x@example.com")


async def test_members_and_strangers_reach_no_form(client: httpx.AsyncClient, member: User) -> None:
    path, body = "/admin/api/forms/approve-a-person/", {"email": member.email}
    assert (await client.post(path, json=body)).status_code in (401, 403)
    await sign_in(client, member.email)
    assert (await client.post(path, json=body)).status_code == 401


async def test_a_lost_phone(ada: httpx.AsyncClient, member: User) -> None:
    status, told = await send(ada, "remove-a-second-factor", email=member.email)
    assert (status, told) == (422, "mel@example.com has no second factor.")
    await AuthenticatorSecret(user_id=member.id, secret="x", recovery_codes=[]).save()
    assert (await send(ada, "remove-a-second-factor", email=member.email))[0] == 200
    assert not await AuthenticatorSecret.exists()


async def test_only_superusers_give_passwords(olga: httpx.AsyncClient, member: User) -> None:
    assert (await send(olga, "give-a-new-password", email=member.email))[0] == 422
    assert await User.login(member.email, PASSWORD) == member.id


async def test_only_superusers_take_a_second_factor_away(
    olga: httpx.AsyncClient, member: User
) -> None:
    stored: dict[str, Any] = {"secret": "xchacha20-00", "recovery_codes": ["r"]}
    await AuthenticatorSecret(user_id=member.id, **stored).save()
    assert (await send(olga, "remove-a-second-factor", email=member.email))[0] == 422
    assert await AuthenticatorSecret.is_user_enrolled(member.id)


async def test_a_forgotten_password(ada: httpx.AsyncClient, member: User) -> None:
    await Session.create_session(member.id)
    status, told = await send(ada, "give-a-new-password", email=member.email)
    assert status == 200
    assert await User.login(member.email, told.rsplit(" ", 1)[1]) == member.id
    assert not await Session.exists().where(Session.user_id == member.id)
    assert await User.login(member.email, PASSWORD) is None
    status, told = await send(ada, "give-a-new-password", email="ada@example.com")
    assert (status, "with the old one" in told) == (422, True)


async def test_the_trail_is_exported_and_that_is_recorded(ada: httpx.AsyncClient) -> None:
    await record(piccolo_conf.DB, "thing.happened", "things", "=1+1")
    body = {"action": "thing.happened", "since": "2020-01-01T00:00:00"}
    answer = await ada.post("/admin/api/forms/export-the-trail/", json=body)
    assert answer.headers["content-type"].startswith("text/csv")
    assert len(answer.text.splitlines()) == 2
    assert "'=1+1" in answer.text
    [row] = await AuditLog.select().where(AuditLog.action == "audit.export")
    assert row["actor"] == "ada@example.com"
    assert re.search(r'"rows": ?1\b', row["details"])


async def test_editing_does_not_decide(ada: httpx.AsyncClient, member: User) -> None:
    path = f"/admin/api/tables/users/{member.id}/"
    refused = await ada.patch(path, json={"is_disabled": True, "display_name": "M"})
    assert (refused.status_code, "forms" in refused.text) == (422, True)
    same = await ada.patch(path, json={"is_disabled": False, "display_name": "M"})
    assert same.status_code == 200
    assert await state_of(member.email) == (True, False)


FAIL = """
    CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN RAISE EXCEPTION 'no' USING ERRCODE = 'check_violation'; END $$;
"""


async def test_a_person_is_created_whole_or_not_at_all(
    ada: httpx.AsyncClient, administrator: User, db: Engine
) -> None:
    await db.run_ddl(FAIL)
    await db.run_ddl("CREATE TRIGGER fail BEFORE UPDATE ON users EXECUTE FUNCTION fail()")
    assert (await send(ada, "create-a-person", email="new@example.com"))[0] == 200
    new = await User.objects().where(User.email == "new@example.com").first()
    assert new is not None
    assert (new.is_approved, new.approved_by) == (True, administrator.id)
    assert new.approved_at is not None


async def test_a_second_factor_goes_with_the_sessions_or_stays(
    ada: httpx.AsyncClient, member: User, db: Engine
) -> None:
    await AuthenticatorSecret(user_id=member.id, secret="x", recovery_codes=[]).save()
    session = await Session.create_session(member.id)
    await db.run_ddl(FAIL)
    await db.run_ddl(
        "CREATE TRIGGER fail BEFORE DELETE ON sessions FOR EACH ROW EXECUTE FUNCTION fail()"
    )
    assert (await send(ada, "remove-a-second-factor", email=member.email))[0] >= 400
    assert await AuthenticatorSecret.is_user_enrolled(member.id)
    await db.run_ddl("DROP TRIGGER fail ON sessions")
    assert (await send(ada, "remove-a-second-factor", email=member.email))[0] == 200
    assert await Session.get_user_id(session.token) is None
