"""Everybody tries every route and field that is not theirs."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from home.accounts.authenticator import AuthenticatorSecret
from home.tables import Session, User, UserPreference
from tests.conftest import PASSWORD, sign_in

pytestmark = pytest.mark.any_version


async def routes(client: httpx.AsyncClient) -> list[tuple[str, str]]:
    """All methods and paths of the back office that need somebody to be signed in."""
    paths = (await client.get("/admin/api/openapi.json")).json()["paths"]
    return [
        (method.upper(), "/admin/api" + path.format_map(Anything()))
        for path, methods in paths.items()
        for method in methods
    ]


class Anything(dict[str, str]):
    def __missing__(self, key: str) -> str:
        return "users" if "table" in key else "approve-a-person" if "slug" in key else "1"


async def rows() -> list[Any]:
    """What nobody of these may change; when they signed in last is another matter."""
    people = await User.select(*User.all_columns(exclude=[User.last_login_at, User.updated_at]))
    return [people, await UserPreference.select(), await AuthenticatorSecret.select()]


@pytest.fixture
async def everybody(administrator: User, member: User) -> None:
    """Ada, Mel, and Olga, who is an administrator but no superuser; each with things of theirs."""
    olga = await User.create_user("olga@example.com", PASSWORD, is_admin=True, is_approved=True)
    for person in (administrator, member, olga):
        await UserPreference(user_id=person.id, preferences='{"a": 1}').save()
    stored: dict[str, Any] = {"secret": "xchacha20-00", "recovery_codes": ["r"]}
    await AuthenticatorSecret(user_id=administrator.id, **stored).save()


@pytest.mark.parametrize("who", ["nobody", "mel@example.com"])
async def test_strangers_and_members_reach_nothing_of_the_back_office(
    client: httpx.AsyncClient, everybody: None, who: str
) -> None:
    await sign_in(client, "olga@example.com")
    found = await routes(client)
    assert len(found) > 30
    await client.post("/admin/public/logout/")
    if who != "nobody":
        await sign_in(client, who)
    before = await rows()
    for method, path in found:
        answer = await client.request(method, path, json={"is_admin": True})
        assert answer.status_code == 401, (method, path, answer.text)
    assert await rows() == before


async def test_administrators_who_are_no_superusers_raise_nobody(
    client: httpx.AsyncClient, everybody: None, member: User
) -> None:
    await sign_in(client, "olga@example.com")
    before = await rows()
    row = {"is_superuser": True, "is_admin": True, "password_hash": "x", "preferences": {}}
    for table in ("users", "user_preferences", "sessions", "audit_logs", "authenticator_secrets"):
        sid = (await Session.select(Session.sid).first() or {})["sid"]
        for row_id in (1, member.id, sid):
            path = f"/admin/api/tables/{table}/{row_id}/"
            for method in ("PUT", "PATCH", "DELETE"):
                answer = await client.request(method, path, json=row)
                assert 400 <= answer.status_code < 500, (method, path)
        assert (await client.post(f"/admin/api/tables/{table}/", json=row)).status_code >= 400
        deleted = await client.delete(f"/admin/api/tables/{table}/")
        assert deleted.status_code >= 400
    assert await rows() == before
    assert await Session.exists()


async def test_no_answer_of_the_back_office_holds_a_secret(
    client: httpx.AsyncClient, everybody: None
) -> None:
    await sign_in(client, "olga@example.com")
    token = client.cookies["id"]
    for method, path in await routes(client):
        if method != "GET":
            continue
        for table in ("users", "authenticator_secrets", "sessions", "audit_logs"):
            answer = await client.get(path.replace("/users/", f"/{table}/"))
            for secret in ("$argon2id$", "xchacha20-", token):
                assert secret not in answer.text, path
