"""The page of one's own account: every action is a form, and nothing needs a script."""

from __future__ import annotations

import json
import re
from typing import Any

import httpx
import pytest
from pydantic import SecretStr
from starlette.applications import Starlette

from audit.context import Actor, acting_as
from audit.record import record
from home.accounts.authenticator import AuthenticatorSecret
from home.database.engine import Engine
from home.pages import browsers
from home.tables import Session, User, UserPreference
from tests.conftest import PASSWORD, browser, client_with, enter

pytestmark = pytest.mark.any_version

NEW = "another rather long phrase"


async def send(client: httpx.AsyncClient, path: str, **fields: str) -> httpx.Response:
    """Send a form of the page as a browser does, with the token that stands in it."""
    page = (await client.get("/account")).text
    token = re.search(r'name="csrf_token" value="(\w+)"', page)
    assert token is not None, page
    return await client.post(path, data=fields | {"csrf_token": token[1]}, follow_redirects=True)


async def test_name_and_organization(client: httpx.AsyncClient, member: User) -> None:
    await enter(client, member.email)
    page = await send(client, "/account/profile", display_name=" Mel <b> ", organization="Navy")
    assert (page.url.path, "Saved." in page.text) == ("/account", True)
    assert 'value="Mel &lt;b&gt;"' in page.text
    me = (await client.get("/api/me")).json()
    assert (me["display_name"], me["organization"]) == ("Mel <b>", "Navy")
    assert "Saved." not in (await client.get("/account")).text, "a message is for one page"
    await send(client, "/account/profile", display_name="", organization="Navy")
    assert (await client.get("/api/me")).json()["display_name"] is None
    for wrong in ("x" * 256, "a\x07b"):
        page = await send(client, "/account/profile", display_name=wrong, organization="Kept")
        assert (page.status_code, 'role="alert"' in page.text) == (422, True)
        assert 'value="Kept"' in page.text


async def test_a_form_needs_the_token_of_the_session(
    client: httpx.AsyncClient, member: User
) -> None:
    await enter(client, member.email)
    for data in (
        {},
        {"csrf_token": "forged"},
        {"csrf_token": "é\ud800".encode("utf-8", "replace")},
    ):
        answer = await client.post(
            "/account/profile", data={**data, "display_name": "x"}, headers={"accept": "text/html"}
        )
        assert (answer.status_code, "out of date" in answer.text) == (403, True)
    assert (await client.get("/api/me")).json()["display_name"] is None


async def test_another_password(app: Starlette, client: httpx.AsyncClient, member: User) -> None:
    async with browser(app) as phone:
        await enter(phone, member.email)
        await enter(client, member.email)
        for fields, sentence in (
            ({"old": "wrong", "new": NEW, "again": NEW}, "The current password is wrong."),
            ({"old": PASSWORD, "new": NEW, "again": "other"}, "typed in two ways"),
            ({"old": PASSWORD, "new": "short", "again": "short"}, "8 to 128 characters"),
        ):
            page = await send(client, "/account/password", **fields)
            assert page.status_code in (403, 422)
            assert sentence in page.text
            assert NEW not in page.text
        page = await send(client, "/account/password", old=PASSWORD, new=NEW, again=NEW)
        assert (page.status_code, "Your password is changed." in page.text) == (200, True)
        assert (await phone.get("/account")).status_code == 303
    assert await User.login(member.email, NEW) == member.id


async def test_sessions_are_named_and_ended(
    app: Starlette, client: httpx.AsyncClient, member: User, administrator: User
) -> None:
    firefox = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
    client.headers["user-agent"] = firefox
    await enter(client, member.email)
    theirs = await Session.create_session(administrator.id)
    async with browser(app) as phone, browser(app) as tablet:
        phone.headers["user-agent"] = "curl/8.5.0"
        await enter(phone, member.email)
        page = (await client.get("/account")).text
        assert "Firefox on Linux" in page
        assert "curl/8.5.0" in page
        assert page.count("this one") == 1
        [sid] = re.findall(r'name="session" value="(\w+)"', page)
        page = (await send(client, "/account/sessions/end", session=sid)).text
        assert "The session has ended." in page
        assert (await phone.get("/account")).status_code == 303
        for ended in (sid, str(theirs.sid), "", "x' OR true --"):
            page = (await send(client, "/account/sessions/end", session=ended)).text
            assert "has ended already" in page
        await enter(tablet, member.email)
        assert "Ended 1 other session." in (await send(client, "/account/sessions/end-others")).text
        assert (await tablet.get("/account")).status_code == 303
    assert (await client.get("/account")).status_code == 200
    assert await Session.get_user_id(theirs.token) == administrator.id


async def test_what_other_programs_keep_in_a_session_breaks_nothing(
    client: httpx.AsyncClient, member: User, db: Engine
) -> None:
    await enter(client, member.email)
    for sess in ("[1]", "null", '{"user_agent": 7, "ip_address": {"a": 1}}', '"x"'):
        await db.execute("UPDATE sessions SET sess = $1", sess)
        page = await client.get("/account")
        assert (page.status_code, "Unknown device" in page.text) == (200, True)


async def test_what_happened_is_told_in_words(
    client: httpx.AsyncClient, member: User, administrator: User, db: Engine
) -> None:
    await client.post("/api/sign-in", json={"email": member.email, "password": "wrong"})
    with acting_as(Actor(administrator.email, administrator.id, "10.9.8.7")):
        await User.update({User.is_auditor: True, User.display_name: "Mel <i>"}).where(
            User.id == member.id
        )
        await User.update({User.display_name: "Someone else"}).where(User.id == administrator.id)
    await enter(client, member.email)
    page = (await client.get("/account")).text
    told = [" ".join(re.sub("<[^>]+>", " ", each).split()) for each in re.findall(
        r'<li class="entry">(.*?)</li>', page, re.DOTALL)]  # fmt: skip
    assert told[0] == "just now You signed in 127.0.0.1"
    assert told[1] == (
        "just now You became an auditor by ada@example.com · name — → Mel &lt;i&gt; 10.9.8.7"
    )
    assert told[2] == "just now A sign-in failed: wrong password 127.0.0.1"
    assert "The account was made" in told[3]
    assert len(told) == 4, "nothing of others"
    for _ in range(25):
        await record(db, "sign_in.failed", "sign_in", member.email)
    page = (await client.get("/account")).text
    assert page.count('<li class="entry">') == 20


async def test_who_takes_over_an_address_sees_nothing_of_before(
    client: httpx.AsyncClient, member: User, db: Engine
) -> None:
    before = "INSERT INTO audit_logs (action, resource, resource_id, ip_address, created_at)" \
        " VALUES ($1, $2, $3, '10.6.6.6', now() - interval '1 day')"  # fmt: skip
    await db.execute(before, "sign_in.failed", "sign_in", member.email)
    await db.execute(before, "register.requested", "register", member.email)
    await enter(client, member.email)
    assert "10.6.6.6" not in (await client.get("/account")).text
    assert "10.6.6.6" not in (await client.get("/account/data.json")).text


async def test_everything_that_is_stored_and_no_secret(
    client: httpx.AsyncClient, member: User, administrator: User
) -> None:
    await UserPreference(user_id=member.id, preferences={"theme": "dark"}).save()
    await UserPreference(user_id=administrator.id, preferences={"theme": "of ada"}).save()
    await AuthenticatorSecret(user_id=member.id, secret="s3cr3t", recovery_codes=["c0d3"]).save()
    token = (await Session.create_session(member.id)).token
    client.cookies["id"] = token
    with acting_as(Actor(member.email, member.id)):
        await User.update({User.display_name: "of ada's, by mel"}).where(
            User.id == administrator.id
        )
    answer = await client.get("/account/data.json")
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["content-disposition"] == 'attachment; filename="account.json"'
    found: dict[str, Any] = json.loads(answer.content)
    assert (found["account"]["email"], found["account"]["id"]) == (member.email, member.id)
    tables = found["tables"]
    assert [row["preferences"]["theme"] for row in tables["user_preferences"]] == ["dark"]
    assert len(tables["sessions"]) == 1
    assert tables["authenticator_secrets"][0]["user_id"] == member.id
    assert tables["directory_people"] == []
    actions = {row["action"] for row in found["about_you_on_the_trail"]}
    assert {"users.insert", "sign_in.succeeded"} <= actions
    assert [row["action"] for row in found["done_by_you"]][-1] == "users.update"
    for secret in ("s3cr3t", "c0d3", token, "argon2", "of ada", "credentials_version"):
        assert secret not in answer.text, secret


async def test_signing_out(client: httpx.AsyncClient, member: User) -> None:
    await enter(client, member.email)
    page = await send(client, "/sign-out")
    assert (page.url.path, "You are signed out." in page.text) == ("/sign-in", True)
    assert not await Session.exists()
    assert (await client.get("/account")).headers["location"] == "/sign-in?next=/account"


async def test_the_second_factor_is_offered_where_there_is_a_key(url: str, member: User) -> None:
    for key in (None, SecretStr("k" * 32)):
        async with client_with(mfa_key=key) as client:
            await enter(client, member.email)
            assert ("/second-factor" in (await client.get("/account")).text) is (key is not None)


@pytest.mark.parametrize(
    ("agent", "words"),
    [
        (
            "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko)"
            " Chrome/142.0.0.0 Safari/537.36 Edg/142.0.0.0",
            "Edge on Windows",
        ),
        (
            "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML,"
            " like Gecko) Version/18.5 Mobile/15E148 Safari/604.1",
            "Safari on iPhone",
        ),
        (
            "Mozilla/5.0 (Linux; Android 15; Pixel 9) AppleWebKit/537.36 (KHTML, like Gecko)"
            " Chrome/142.0.0.0 Mobile Safari/537.36",
            "Chrome on Android",
        ),
        (
            "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like"
            " Gecko) Version/18.5 Safari/605.1.15",
            "Safari on macOS",
        ),
        ("python-httpx/0.28.1", "python-httpx/0.28.1"),
        ("", "Unknown device"),
        (None, "Unknown device"),
        ("\x1b[31m " + "x" * 900, "x" * 40),
    ],
)
def test_devices_in_words(agent: str | None, words: str) -> None:
    assert browsers.in_words(agent) == words
