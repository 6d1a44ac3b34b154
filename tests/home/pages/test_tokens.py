"""Tokens of programs on the pages: made, shown once, ended; by whom they are."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator

import httpx
import pytest

from home.accounts import tokens
from home.database.engine import Engine
from home.tables import User
from home.web.people import csrf_token
from tests.conftest import PASSWORD, client_with, enter

pytestmark = pytest.mark.any_version


@pytest.fixture
async def client(url: str) -> AsyncIterator[httpx.AsyncClient]:
    """An outsider, where tokens are in use."""
    async with client_with(api_tokens=True) as client:
        yield client


async def post(client: httpx.AsyncClient, path: str, **fields: object) -> httpx.Response:
    fields["csrf_token"] = csrf_token(client.cookies["id"])
    return await client.post(path, data=fields, headers={"origin": "http://test"})


def token_on(page: httpx.Response) -> str:
    [found] = re.findall(r"<code>(gw_[\w-]{43})</code>", page.text)
    return str(found)


async def me(client: httpx.AsyncClient, token: str) -> httpx.Response:
    return await client.get("/api/me", headers={"authorization": f"Bearer {token}"})


async def test_ones_own(client: httpx.AsyncClient, member: User) -> None:
    await enter(client, member.email)
    assert "None." in (await client.get("/account")).text
    made = await post(
        client, "/account/tokens", name="deploy", scope=["read", "write"], days=30,
        password=PASSWORD,
    )  # fmt: skip
    token = token_on(made)
    page = (await client.get("/account")).text
    assert token not in page
    assert "read, write" in page
    assert (await me(client, token)).status_code == 200
    [number] = re.findall(r'name="token" value="(\d+)"', page)
    ended = await post(client, "/account/tokens/end", token=number)
    assert ended.status_code == 303
    assert (await me(client, token)).status_code == 401
    assert "has ended" in (await client.get("/account")).text


@pytest.mark.parametrize(
    ("fields", "status", "sentence"),
    [
        ({"password": "wrong"}, 403, "The current password is wrong."),
        ({"name": "<script>"}, 422, "A name has at most"),
        ({"name": ""}, 422, "A name has at most"),
        ({"scope": []}, 422, "Choose scopes"),
        ({"scope": ["root"]}, 422, "Choose scopes"),
        ({"days": "99999999999999999999"}, 422, "1 to 366 days"),
        ({"days": "-1"}, 422, "1 to 366 days"),
        ({"days": "x"}, 422, "1 to 366 days"),
    ],
)
async def test_what_cannot_be_is_refused_with_a_sentence_where_it_was_typed(
    client: httpx.AsyncClient, member: User, fields: dict[str, object], status: int, sentence: str
) -> None:
    await enter(client, member.email)
    good = {"name": "deploy", "scope": ["read"], "days": 30, "password": PASSWORD}
    answer = await post(client, "/account/tokens", **(good | fields))
    assert (answer.status_code, "<details open>" in answer.text) == (status, True)
    assert sentence in answer.text
    assert "<script>" not in answer.text
    assert "gw_" not in answer.text


async def test_an_administrator_looks_after_services(
    client: httpx.AsyncClient, administrator: User, db: Engine
) -> None:
    await enter(client, administrator.email)
    assert "New service account" in (await client.get("/people?group=services")).text
    made = await post(client, "/people/service", email="deploy@example.com", display_name="Deploy")
    where = made.headers["location"]
    assert re.fullmatch(r"/people/\d+", where)
    again = await post(client, "/people/service", email="deploy@example.com")
    assert again.headers["location"] == "/people"
    assert "already an account" in (await client.get("/people")).text
    assert "Deploy" in (await client.get("/people?group=services")).text
    token = token_on(await post(client, f"{where}/tokens", name="ci", scope=["read"], days=7))
    assert (await me(client, token)).json()["email"] == "deploy@example.com"
    page = (await client.get(where)).text
    [number] = re.findall(r'name="token" value="(\d+)"', page)
    assert token not in page
    for wrong in ("x", "0", "99"):
        await post(client, f"{where}/tokens/end", token=wrong)
        assert "not for you to end" in (await client.get(where)).text
    await post(client, f"{where}/tokens/end", token=number)
    assert (await me(client, token)).status_code == 401


async def test_a_person_makes_their_own(
    client: httpx.AsyncClient, administrator: User, member: User, db: Engine
) -> None:
    """Whoever made one for somebody else would act in their name."""
    await enter(client, administrator.email)
    await post(client, f"/people/{member.id}/tokens", name="x", scope=["read"], days=7)
    assert "may not make a token" in (await client.get(f"/people/{member.id}")).text
    assert await tokens.list_of(db, member.id) == []
    await tokens.create(db, None, member.id, "lost", ["read"], 7)
    [row] = await tokens.list_of(db, member.id)
    assert "lost" in (await client.get(f"/people/{member.id}")).text
    await post(client, f"/people/{member.id}/tokens/end", token=row["id"])
    assert await tokens.list_of(db, member.id) == []


async def test_members_auditors_and_strangers(
    client: httpx.AsyncClient, administrator: User, member: User, db: Engine
) -> None:
    service = await tokens.create_service(db, administrator.id, "deploy@example.com", None)
    await tokens.create(db, None, service, "ci", ["read"], 7)
    [row] = await tokens.list_of(db, service)
    paths = ("/people/service", f"/people/{service}/tokens", f"/people/{service}/tokens/end")
    for path in (*paths, "/account/tokens", "/account/tokens/end"):
        assert (await client.post(path)).status_code == 303  # to sign in
    await db.execute("UPDATE users SET is_auditor = true WHERE id = $1", member.id)
    await enter(client, member.email)
    for path in paths:
        assert (await post(client, path, token=row["id"])).status_code == 403
    page = (await client.get(f"/people/{service}")).text
    assert "service" in page
    assert "Tokens for programs" not in page
    forged = await client.post("/account/tokens", data={"name": "x"})
    assert forged.status_code == 403
    await post(client, "/account/tokens/end", token=row["id"])  # of another account
    assert len(await tokens.list_of(db, service)) == 1


async def test_the_trail_tells_of_tokens_in_words(
    client: httpx.AsyncClient, administrator: User, member: User, db: Engine
) -> None:
    token = await tokens.create(db, None, member.id, "deploy", ["write"], 7)
    headers = {"authorization": f"Bearer {token}"}
    await client.patch("/api/me", json={"display_name": "Mel"}, headers=headers)
    await client.get("/api/me", headers={"authorization": "Bearer gw_wrong"})
    await enter(client, administrator.email)
    found = (await client.get("/api/trail")).json()["rows"]
    sentences = [row["sentence"] for row in found]
    assert any(s.startswith("mel@example.com (Mel), token:deploy changed") for s in sentences)
    assert any("came with a token that was refused" in s for s in sentences)
    assert any("made a token for a program" in s for s in sentences)
    of_mel = (await client.get("/api/trail?person=mel@example.com")).json()["rows"]
    assert "mel@example.com token:deploy" in [row["actor"] for row in of_mel]
