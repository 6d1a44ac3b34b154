"""Tokens of programs: what they open, for how long, and what ends them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import httpx
import pytest

from audit.context import Actor, acting_as
from audit.errors import Refused
from audit.tables import AuditLog
from home.accounts import failures, tokens
from home.accounts.tables import ApiToken
from home.accounts.tokens import TOKENS_PER_ACCOUNT, Scope
from home.database.engine import Engine
from home.tables import User
from tests.conftest import PASSWORD, client_with, create_app, enter

pytestmark = pytest.mark.any_version

ALL = list(Scope)
NOT_FOR_TOKENS = {
    ("POST", "/api/me/password"),
    ("POST", "/api/sign-out"),
    ("GET", "/api/me/sessions"),
    ("DELETE", "/api/me/sessions"),
    ("DELETE", "/api/me/sessions/{sid}"),
    ("GET", "/api/me/tokens"),
    ("POST", "/api/me/tokens"),
    ("DELETE", "/api/me/tokens/{id}"),
}


@pytest.fixture
async def api(member: User) -> AsyncIterator[httpx.AsyncClient]:
    """An outsider, where tokens are in use."""
    tokens.failures.clear()
    async with client_with(api_tokens=True) as client:
        yield client
    tokens.failures.clear()


def bearing(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


async def made_for(user: User, scopes: Sequence[str] = ALL, name: str = "deploy") -> str:
    db = User._meta.db
    assert isinstance(db, Engine)
    return await tokens.create(db, None, user.id, name, scopes, 30)


async def asked(api: httpx.AsyncClient, token: str, path: str = "/api/me") -> int:
    return (await api.get(path, headers=bearing(token))).status_code


async def test_a_program_acts_for_somebody_and_the_trail_says_which(
    api: httpx.AsyncClient, db: Engine, member: User
) -> None:
    token = await made_for(member)
    assert (await api.get("/api/me", headers=bearing(token))).json()["email"] == member.email
    body = {"organization": "Radio"}
    changed = await api.patch("/api/me", json=body, headers=bearing(token))
    assert changed.status_code == 200
    put = await api.put("/api/me/preferences", json={"a": 1}, headers=bearing(token))
    assert put.status_code == 200
    rows = await db.fetch(
        "SELECT actor, user_id, action FROM audit_logs WHERE user_id = $1 ORDER BY id", member.id
    )
    assert [tuple(row) for row in rows[-2:]] == [
        ("mel@example.com token:deploy", member.id, "users.update"),
        ("mel@example.com token:deploy", member.id, "user_preferences.insert"),
    ]


async def test_what_is_stored_opens_nothing_and_is_not_shown(
    api: httpx.AsyncClient, db: Engine, member: User
) -> None:
    token = await made_for(member)
    stored = await db.fetchval("SELECT string_agg(t::text, '') FROM api_tokens t")
    trail = await db.fetchval("SELECT string_agg(t::text, '') FROM audit_logs t")
    assert token.startswith("gw_")
    assert len(token) == 46
    assert token not in stored
    assert token[3:] not in stored
    digest = await db.fetchval("SELECT digest FROM api_tokens")
    assert digest not in trail
    assert await asked(api, digest) == 401


@pytest.mark.parametrize(
    ("scope", "opened"),
    [
        ("read", {"/api/me", "/api/me/preferences", "/api/people"}),
        ("write", set()),
        ("sync", {"/api/sync"}),
        ("trail", {"/api/trail"}),
    ],
)
async def test_a_scope_opens_its_part(
    api: httpx.AsyncClient, administrator: User, scope: str, opened: set[str]
) -> None:
    token = await made_for(administrator, [scope])
    for path in ("/api/me", "/api/me/preferences", "/api/people", "/api/sync", "/api/trail"):
        answer = await api.get(path, headers=bearing(token))
        assert answer.status_code == (200 if path in opened else 403), path
        if path not in opened:
            assert 'error="insufficient_scope"' in answer.headers["www-authenticate"]
    changed = await api.patch("/api/me", json={}, headers=bearing(token))
    assert changed.status_code == (200 if scope == "write" else 403)
    lacks = await AuditLog.count().where(AuditLog.action == "token.refused")
    assert lacks == 5 - len(opened) + (scope != "write")


async def test_rights_are_those_of_the_account(api: httpx.AsyncClient, member: User) -> None:
    token = await made_for(member)
    for path in ("/api/people", "/api/trail", "/api/sync"):
        assert await asked(api, token, path) == 403


async def test_each_operation_says_whether_a_token_does(
    api: httpx.AsyncClient, administrator: User
) -> None:
    """By the description, and by asking: what ends or begins sessions and tokens is for people."""
    token = await made_for(administrator, ["read", "write", "trail"])
    document = (await api.get("/api/openapi.json")).json()
    found = set()
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            wants = [each["token"] for each in operation["security"] if "token" in each]
            if not operation["security"]:
                continue
            if not wants:
                found.add((method.upper(), path))
                url = path.replace("{sid}", "x").replace("{id}", "1")
                body = {"name": "x", "scopes": [], "password": "x"} if "tokens" in path else None
                body = {"old": "x", "new": "x"} if "password" in path else body
                answer = await api.request(method, url, headers=bearing(token), json=body)
                assert answer.status_code == 403, (method, path)
    assert found == NOT_FOR_TOKENS


async def test_neither_pages_nor_the_back_office_take_one(
    api: httpx.AsyncClient, administrator: User
) -> None:
    token = await made_for(administrator)
    for path in ("/account", "/people", "/trail", "/admin/api/tables/"):
        answer = await api.get(path, headers=bearing(token))
        assert answer.status_code in (303, 401, 403), path


async def test_it_does_nowhere_but_in_its_header(api: httpx.AsyncClient, member: User) -> None:
    token = await made_for(member)
    assert (await api.get(f"/api/me?access_token={token}")).status_code == 401
    assert (await api.get("/api/me", headers={"cookie": f"id={token}"})).status_code == 401
    wrong = {"authorization": f"Basic {token}"}
    assert (await api.get("/api/me", headers=wrong)).status_code == 401
    assert (await api.get("/api/me", headers={"authorization": f"bearer {token}"})).is_success


async def test_beside_a_wrong_token_a_session_does_not_count(
    api: httpx.AsyncClient, member: User
) -> None:
    await enter(api, member.email)
    assert await asked(api, "gw_" + "x" * 43) == 401
    assert (await api.get("/api/me")).status_code == 200


@pytest.mark.parametrize(
    ("change", "ends"),
    [
        ("is_disabled = true", True),
        ("is_approved = false", True),
        ("email = 'other@example.com'", True),
        ("is_admin = true", True),
        ("is_auditor = true", True),
        ("password_hash = 'of somebody else'", True),
        ("display_name = 'Mel'", False),
        ("last_login_at = now()", False),
    ],
)
async def test_it_ends_with_what_it_was_made_for(
    api: httpx.AsyncClient, db: Engine, member: User, change: str, ends: bool
) -> None:
    token = await made_for(member)
    await db.execute(f"UPDATE users SET {change} WHERE id = $1", member.id)
    await db.execute(
        "UPDATE users SET is_disabled = false, is_approved = true WHERE id = $1", member.id
    )
    assert await asked(api, token) == (401 if ends else 200)


async def test_a_new_password_of_ones_own_leaves_them(api: httpx.AsyncClient, member: User) -> None:
    token = await made_for(member)
    await enter(api, member.email)
    body = {"old": PASSWORD, "new": "another correct horse"}
    assert (await api.post("/api/me/password", json=body)).status_code == 200
    assert await asked(api, token) == 200


async def test_it_has_an_end(api: httpx.AsyncClient, db: Engine, member: User) -> None:
    token = await made_for(member)
    await db.execute("UPDATE api_tokens SET expires_at = now()")
    assert await asked(api, token) == 401
    await db.execute(
        "UPDATE api_tokens SET expires_at = now() + interval '9 years',"
        " created_at = now() + interval '8 years'"
    )
    assert await asked(api, token) == 401  # of a clock that was ahead


async def test_use_is_noted_once_a_minute_and_not_on_the_trail(
    api: httpx.AsyncClient, db: Engine, member: User
) -> None:
    token = await made_for(member)
    assert await db.fetchval("SELECT last_used_at FROM api_tokens") is None
    await asked(api, token)
    first = await db.fetchval("SELECT last_used_at FROM api_tokens")
    await asked(api, token)
    assert first is not None
    assert first == await db.fetchval("SELECT last_used_at FROM api_tokens")
    assert not await db.fetch("SELECT FROM audit_logs WHERE action = 'api_tokens.update'")


async def test_guesses_are_counted_and_hold_up_no_right_one(
    api: httpx.AsyncClient, db: Engine, member: User
) -> None:
    token = await made_for(member)
    found = [await asked(api, f"gw_{n:043}") for n in range(failures.MOST + 5)]
    assert found == [401] * failures.MOST + [429] * 5
    assert await asked(api, token) == 200
    recorded = await db.fetchval("SELECT count(*) FROM audit_logs WHERE action = 'token.refused'")
    assert recorded == failures.MOST


def test_networks_that_failed_are_forgotten() -> None:
    found = failures.RecentFailures()
    for number in range(failures.MOST_NETWORKS + 10):
        with acting_as(
            Actor(
                "anonymous", ip_address=f"10.{number // 65536}.{number // 256 % 256}.{number % 256}"
            )
        ):
            found.count()
    assert len(found._found) == failures.MOST_NETWORKS


@pytest.mark.parametrize(
    ("name", "scopes", "days"),
    [
        ("", ["read"], 30),
        ("a\nb", ["read"], 30),
        ("x" * 51, ["read"], 30),
        ("deploy", [], 30),
        ("deploy", ["read", "root"], 30),
        ("deploy", ["read"], 0),
        ("deploy", ["read"], 367),
    ],
)
async def test_what_makes_no_token(
    db: Engine, member: User, name: str, scopes: list[str], days: int
) -> None:
    with pytest.raises(Refused):
        await tokens.create(db, None, member.id, name, scopes, days)


async def test_names_are_different_and_there_is_an_end_to_them(db: Engine, member: User) -> None:
    await made_for(member)
    with pytest.raises(Refused, match="of this name"):
        await made_for(member)
    for number in range(TOKENS_PER_ACCOUNT - 1):
        await made_for(member, name=f"t{number}")
    with pytest.raises(Refused, match="at most"):
        await made_for(member, name="one more")


async def test_there_is_an_end_to_them_also_at_once(db: Engine, member: User) -> None:
    made = (made_for(member, name=f"t{number}") for number in range(TOKENS_PER_ACCOUNT + 10))
    found = await asyncio.gather(*made, return_exceptions=True)
    assert sum(isinstance(each, str) for each in found) == TOKENS_PER_ACCOUNT


async def new_token(api: httpx.AsyncClient, **changed: Any) -> httpx.Response:
    body = {"name": "deploy", "scopes": ["read"], "password": PASSWORD} | changed
    return await api.post("/api/me/tokens", json=body)


async def test_one_is_made_listed_and_ended_over_http(api: httpx.AsyncClient, member: User) -> None:
    await enter(api, member.email)
    assert (await new_token(api, password="wrong")).status_code == 403
    assert (await new_token(api, scopes=["root"])).status_code == 422
    made = await new_token(api)
    assert made.status_code == 201
    [listed] = (await api.get("/api/me/tokens")).json()["tokens"]
    assert (listed["name"], listed["scopes"], listed["is_over"]) == ("deploy", ["read"], False)
    assert made.json()["token"] not in str(listed)
    assert await asked(api, made.json()["token"]) == 200
    for wrong in (listed["id"] + 1, "x", 10**30):
        assert (await api.delete(f"/api/me/tokens/{wrong}")).status_code == 404
    assert (await api.delete(f"/api/me/tokens/{listed['id']}")).status_code == 204
    assert await asked(api, made.json()["token"]) == 401


async def test_nobody_ends_another_persons(
    api: httpx.AsyncClient, db: Engine, member: User, administrator: User
) -> None:
    await made_for(administrator)
    [row] = await tokens.list_of(db, administrator.id)
    await enter(api, member.email)
    assert (await api.delete(f"/api/me/tokens/{row['id']}")).status_code == 404
    assert not await tokens.end(db, member.id, administrator.id, row["id"])
    assert await ApiToken.count() == 1


async def test_one_that_was_begun_under_another_password_is_not_made(
    db: Engine, member: User
) -> None:
    version = await db.fetchval("SELECT credentials_version FROM users WHERE id = $1", member.id)
    await db.execute("UPDATE users SET password_hash = 'x' WHERE id = $1", member.id)
    with pytest.raises(Refused):
        await tokens.create(db, member.id, member.id, "deploy", ["read"], 30, version)


async def test_a_service_account_has_no_password(db: Engine, administrator: User) -> None:
    made = await tokens.create_service(db, administrator.id, "Deploy@Example.com", "Deployments")
    row = await db.fetchrow("SELECT * FROM users WHERE id = $1", made)
    assert row is not None
    assert (row["email"], row["is_service"], row["is_approved"], row["approved_by"]) == (
        "deploy@example.com", True, True, administrator.id,
    )  # fmt: skip
    with pytest.raises(Refused, match="already"):
        await tokens.create_service(db, administrator.id, "deploy@example.com", None)
    with pytest.raises(Refused, match="valid"):
        await tokens.create_service(db, administrator.id, "deploy", None)
    with pytest.raises(Exception, match="users_service_has_no_password"):
        await User.update_password(made, PASSWORD)


async def test_administrators_make_tokens_for_services_and_for_nobody_else(
    db: Engine, administrator: User, member: User
) -> None:
    made = await tokens.create_service(db, administrator.id, "deploy@example.com", None)
    assert await tokens.create(db, administrator.id, made, "deploy", ["read"], 30)
    with pytest.raises(Refused, match="may not"):
        await tokens.create(db, administrator.id, member.id, "deploy", ["read"], 30)
    with pytest.raises(Refused, match="may not"):
        await tokens.create(db, member.id, made, "other", ["read"], 30)
    with pytest.raises(Refused, match="Only administrators"):
        await tokens.create_service(db, member.id, "other@example.com", None)


async def test_a_service_that_became_an_administrator_is_for_superusers(
    db: Engine, administrator: User
) -> None:
    made = await tokens.create_service(db, administrator.id, "deploy@example.com", None)
    await db.execute("UPDATE users SET is_admin = true WHERE id = $1", made)
    plain = await User.create_user("al@example.com", PASSWORD, is_admin=True, is_approved=True)
    with pytest.raises(Refused):
        await tokens.create(db, plain.id, made, "deploy", ["read"], 30)
    assert await tokens.create(db, administrator.id, made, "deploy", ["read"], 30)


async def test_without_the_setting_nothing_of_it_is_there(
    client: httpx.AsyncClient, administrator: User
) -> None:
    token = await made_for(administrator)
    assert await asked(client, token) == 401
    await enter(client, administrator.email)
    assert "tokens" not in (await client.get("/account")).text.lower()
    assert "Services" not in (await client.get("/people")).text
    assert "bearer" not in (await client.get("/api/openapi.json")).text
    assert (await client.get("/api/me/tokens")).status_code == 404
    assert not [route for route in create_app().routes if "tokens" in getattr(route, "path", "")]
