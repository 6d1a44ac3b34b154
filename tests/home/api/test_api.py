"""The API: a person and their own things, and nobody else's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest
from starlette.applications import Starlette

from audit.tables import AuditLog
from home.database.engine import Engine
from home.tables import Session, User
from tests.conftest import PASSWORD, browser, enter

pytestmark = pytest.mark.any_version

MEL = {"email": "mel@example.com", "password": PASSWORD}


@pytest.fixture
async def mel(app: Starlette, member: User) -> AsyncIterator[httpx.AsyncClient]:
    """Mel's browser, signed in."""
    async with browser(app) as mel:
        await enter(mel, MEL["email"])
        yield mel


async def events() -> list[tuple[str, str]]:
    rows = await AuditLog.select(AuditLog.action, AuditLog.actor).order_by(AuditLog.id)
    return [(row["action"], row["actor"]) for row in rows]


async def test_a_profile_is_read_and_changed(mel: httpx.AsyncClient) -> None:
    me = (await mel.get("/api/me")).json()
    assert (me["email"], me["is_admin"]) == ("mel@example.com", False)
    changed = await mel.patch("/api/me", json={"display_name": "Mel"})
    assert changed.json()["display_name"] == "Mel"
    assert (await mel.get("/api/me")).json()["display_name"] == "Mel"
    assert ("users.update", "mel@example.com") in await events()


@pytest.mark.parametrize(
    "field", ["is_admin", "is_superuser", "is_approved", "clerk_id", "email", "password_hash", "id"]
)
async def test_nobody_raises_themselves(mel: httpx.AsyncClient, field: str) -> None:
    before = await User.select().order_by(User.id)
    answer = await mel.patch("/api/me", json={field: True, "display_name": "x"})
    assert answer.status_code == 422
    assert await User.select().order_by(User.id) == before


async def test_preferences_are_replaced_and_merged(mel: httpx.AsyncClient) -> None:
    path = "/api/me/preferences"
    empty = await mel.get(path)
    assert empty.json() == {}
    first = await mel.put(path, json={"theme": "dark", "list": [1, {"a": None}]})
    assert first.json() == {"theme": "dark", "list": [1, {"a": None}]}
    merged = await mel.patch(path, json={"theme": None, "deep": {"a": 1, "b": None}})
    assert merged.json() == {"list": [1, {"a": None}], "deep": {"a": 1}}
    again = await mel.get(path)
    assert again.json() == merged.json()
    assert again.headers["etag"] == merged.headers["etag"] != first.headers["etag"]
    written = [event for event in await events() if event[0].startswith("user_preferences")]
    assert written == [
        ("user_preferences.insert", "mel@example.com"),
        ("user_preferences.update", "mel@example.com"),
    ]


async def test_no_update_is_lost(mel: httpx.AsyncClient) -> None:
    path = "/api/me/preferences"
    old = (await mel.get(path)).headers["etag"]
    known = {"if-match": old}
    answers = await asyncio.gather(
        *[mel.put(path, json={"tab": n}, headers=known) for n in range(10)]
    )
    assert sorted(answer.status_code for answer in answers) == [200] + [412] * 9
    assert (await mel.patch(path, json={"x": 1}, headers=known)).status_code == 412
    merges = await asyncio.gather(*[mel.patch(path, json={f"key{n}": n}) for n in range(10)])
    assert {answer.status_code for answer in merges} == {200}
    stored = (await mel.get(path)).json()
    assert {f"key{n}" for n in range(10)} <= stored.keys()


async def test_two_browsers_and_the_other_one_is_ended(
    app: Starlette, mel: httpx.AsyncClient
) -> None:
    async with browser(app) as phone:
        phone.headers["user-agent"] = "Phone"
        await enter(phone, MEL["email"])
        listed = (await mel.get("/api/me/sessions")).json()["sessions"]
        assert sorted(session["is_this_one"] for session in listed) == [False, True]
        [other] = [session for session in listed if not session["is_this_one"]]
        assert other["user_agent"] == "Phone"
        assert (await mel.delete(f"/api/me/sessions/{other['id']}")).status_code == 204
        assert (await phone.get("/api/me")).status_code == 401
        await enter(phone, MEL["email"])
        assert (await mel.delete("/api/me/sessions")).json() == {"ended": 1}
        assert (await phone.get("/api/me")).status_code == 401
    assert (await mel.get("/api/me")).status_code == 200


async def test_other_peoples_sessions_are_out_of_reach(
    app: Starlette, mel: httpx.AsyncClient, administrator: User
) -> None:
    async with browser(app) as ada:
        await enter(ada, administrator.email)
        [session] = (await ada.get("/api/me/sessions")).json()["sessions"]
        answer = await mel.delete(f"/api/me/sessions/{session['id']}")
        assert answer.status_code == 404
        assert (await ada.get("/api/me")).status_code == 200


async def test_signing_in_again_ends_the_session_before_it(mel: httpx.AsyncClient) -> None:
    old = mel.cookies["id"]
    await enter(mel, MEL["email"])
    assert mel.cookies["id"] != old
    assert await Session.get_user_id(old) is None
    assert await Session.count() == 1


async def test_at_most_ten_sessions(app: Starlette, member: User) -> None:
    tokens = []
    for _ in range(12):
        async with browser(app) as device:
            await enter(device, MEL["email"])
            tokens.append(device.cookies["id"])
    assert await Session.count() == 10
    assert await Session.get_user_id(tokens[0]) is None
    assert await Session.get_user_id(tokens[-1]) == member.id


async def test_changing_the_password_ends_all_sessions_and_begins_a_new_one(
    mel: httpx.AsyncClient, app: Starlette
) -> None:
    new = "another good phrase"
    async with browser(app) as other:
        await enter(other, MEL["email"])
        wrong = await mel.post("/api/me/password", json={"old": "not this one", "new": new})
        assert wrong.status_code == 403
        weak = await mel.post("/api/me/password", json={"old": PASSWORD, "new": "short"})
        assert weak.status_code == 422
        right = await mel.post("/api/me/password", json={"old": PASSWORD, "new": new})
        assert right.status_code == 200
        assert (await other.get("/api/me")).status_code == 401
        assert (await mel.get("/api/me")).json()["csrf_token"] == right.json()["csrf_token"]
        assert (await other.post("/api/sign-in", json=MEL)).status_code == 401


async def test_signing_out(mel: httpx.AsyncClient) -> None:
    token = mel.cookies["id"]
    assert (await mel.post("/api/sign-out")).status_code == 204
    assert await Session.get_user_id(token) is None
    assert ("sign_out", "mel@example.com") in await events()


async def test_disabling_ends_a_session_at_once(mel: httpx.AsyncClient, member: User) -> None:
    await User.update({User.is_disabled: True}).where(User.id == member.id)
    assert (await mel.get("/api/me")).status_code == 401


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("PATCH", "/api/me"),
        ("PUT", "/api/me/preferences"),
        ("PATCH", "/api/me/preferences"),
        ("DELETE", "/api/me/sessions"),
        ("DELETE", "/api/me/sessions/x"),
        ("POST", "/api/sign-out"),
    ],
)
async def test_unsafe_methods_need_the_token_of_the_session(
    app: Starlette, mel: httpx.AsyncClient, method: str, path: str
) -> None:
    async with browser(app) as phone:
        await enter(phone, MEL["email"])
        of_another = phone.headers["x-csrf-token"]
    for token in ("", "x" * 64, "\u00e9", of_another):
        mel.headers["x-csrf-token"] = token
        answer = await mel.request(method, path, json={})
        assert answer.status_code == 403, answer.text
    mel.cookies.clear()
    assert (await mel.request(method, path, json={})).status_code == 401


async def test_registering_tells_nobody_who_has_an_account(
    client: httpx.AsyncClient, member: User
) -> None:
    new = await client.post(
        "/api/register", json={"email": "New@Example.com", "password": "a fine password"}
    )
    known = await client.post(
        "/api/register", json={"email": "mel@example.com", "password": "a fine password"}
    )
    assert new.status_code == known.status_code == 202
    assert new.json() == known.json()
    row = await User.select().where(User.email == "new@example.com").first()
    assert row is not None
    assert (row["is_approved"], row["is_admin"]) == (False, False)
    answer = await client.post(
        "/api/sign-in", json={"email": "new@example.com", "password": "a fine password"}
    )
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "awaiting_approval")


@pytest.mark.parametrize(
    "body",
    [
        b"", b"[1]", b"null", b'"x"', b"1", b"{}", b"\xff\xfe", b"{" * 100_000, b"[" * 100_000,
        b'{"email": 1, "password": "x"}', b'{"email": ["a"], "password": "x"}',
        b'{"email": "a@b", "password": {}}', b'{"email": "a@b", "password": true}',
        b'{"email": "a@b", "password": "x", "more": 1}', b'{"email": "\\ud800", "password": "x"}',
        b'{"email": "a@b", "password": NaN}', b'{"email": "' + b"a" * 256 + b'", "password": "x"}',
        '{"email": "a@b", "password": "x"}'.encode("utf-16"),
    ],
)  # fmt: skip
async def test_bad_bodies_are_refused(client: httpx.AsyncClient, body: bytes) -> None:
    for path in ("/api/sign-in", "/api/register"):
        answer = await client.post(path, content=body)
        assert answer.status_code == 422, answer.text
        assert answer.json()["error"]["code"] == "invalid"


@pytest.mark.parametrize(
    "body", [b"[1]", b"null", b"{", b'{"a": "\\u0000"}', b'{"a": 1e999}', b'{"a": "\\udc00"}']
)
async def test_preferences_that_cannot_be_stored_are_refused(
    mel: httpx.AsyncClient, body: bytes
) -> None:
    path = "/api/me/preferences"
    await mel.put(path, json={"kept": True})
    for method in ("PUT", "PATCH"):
        assert (await mel.request(method, path, content=body)).status_code == 422
    assert (await mel.put(path, json={"a": "x" * 70_000})).status_code == 413
    assert (await mel.get(path)).json() == {"kept": True}


async def test_odd_emails_open_nothing(client: httpx.AsyncClient, member: User) -> None:
    for email in ("mel@example.com\0", "MEL@EXAMPLE.COM ", "mel@example.com'--", "m\u0131l@x.com"):
        wrong = await client.post("/api/sign-in", json={"email": email, "password": "wrong one"})
        assert wrong.status_code == 401, email
    await enter(client, " Mel@Example.com ")


async def test_connections_are_used_again(mel: httpx.AsyncClient, db: Engine) -> None:
    await mel.put("/api/me/preferences", json={"n": 0})
    pids = "SELECT array_agg(pid ORDER BY pid) FROM pg_stat_activity WHERE application_name = $1"
    [[before]] = await db.fetch(pids, "groundwork")
    for n in range(1, 5):
        await mel.put("/api/me/preferences", json={"n": n})
        await mel.patch("/api/me/preferences", json={"m": n})
    [[after]] = await db.fetch(pids, "groundwork")
    assert set(after) <= set(before)
