"""What all pages share: the head, errors, deep links, and what the product is called."""

from __future__ import annotations

import base64
import re
from typing import Any

import httpx
import pytest
from pydantic import SecretStr
from starlette.requests import Request
from starlette.responses import Response

from audit.apps import App
from home.accounts.throttle import Throttled
from home.database.engine import Engine
from home.tables import User
from home.web.pages import Page
from home.web.people import Who
from home.web.redirects import local_path, redirect
from tests.conftest import PASSWORD, client_with, enter, point_at
from tests.home.backoffice.conftest import client_of

pytestmark = pytest.mark.any_version

HTML = {"accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}
ADA = {"email": "ada@example.com", "password": PASSWORD}


def links(page: str) -> list[str]:
    """Return the titles in the navigation."""
    nav = re.search(r"<nav.*?</nav>", page, re.DOTALL)
    assert nav is not None
    return re.findall(r">([^<>]+)</a>", nav[0])


async def broken(request: Request) -> Response:
    """Stands for a mistake of ours."""
    raise RuntimeError("internals")


async def throttled(request: Request) -> Response:
    """Stands for a page that was asked for too often."""
    raise Throttled(7)


async def told(request: Request) -> Response:
    """Answer a form with a message."""
    return redirect("/account", "Done: <b>2</b> of 3; é", failed=True)


PARTS = App(
    pages=lambda services: [
        Page("/readers", "account_of_nobody.html", Who.READERS, "Readers"),
        Page("/readers/{id:int}", "error.html", Who.READERS),
        Page("/broken", broken, Who.MEMBERS),
        Page("/throttled", throttled, Who.MEMBERS),
        Page("/told", told, Who.MEMBERS, methods=["POST"]),
    ]
)


async def test_the_navigation_shows_what_somebody_may_see(
    url: str, administrator: User, member: User
) -> None:
    rights = {"is_auditor": True, "is_approved": True}
    vera = await User.create_user("vera@example.com", PASSWORD, **rights)
    readers = ["People", "Trail", "Sync", "Readers"]
    shown = {
        member.email: [],
        vera.email: readers,
        administrator.email: ["Overview", *readers, "Tables"],
    }
    for email, titles in shown.items():
        async with client_of(parts=PARTS) as client:
            await enter(client, email)
            page = (await client.get("/account", follow_redirects=True)).text
            assert links(page) == titles
            assert email in page
            assert 'action="/sign-out"' in page
    async with client_of(parts=PARTS) as client:
        assert links((await client.get("/sign-in")).text) == []
        await enter(client, vera.email)
        page = (await client.get("/readers/7")).text
        assert '<a href="/readers" aria-current="page">' in page


async def test_an_auditor_reads_and_may_not_enter_the_back_office(
    client: httpx.AsyncClient, administrator: User
) -> None:
    rights = {"is_auditor": True, "is_approved": True}
    await User.create_user("vera@example.com", PASSWORD, **rights)
    await enter(client, "vera@example.com")
    assert (await client.get("/api/me")).json()["is_auditor"] is True
    assert (await client.get("/")).headers["location"] == "/trail"
    assert (await client.get("/admin/")).headers["location"] == "/account"
    assert (await client.get("/admin/api/tables/users/")).status_code in (401, 403)


@pytest.mark.parametrize(
    ("path", "status", "sentence"),
    [
        ("/nowhere", 404, "There is no such page"),
        ("/readers", 403, "This is for administrators and auditors only."),
        ("/broken", 500, "It has been logged."),
        ("/throttled", 429, "Try again in 7 seconds."),
        ("/static/nothing.css", 404, "There is no such page"),
        ("/api/nothing", 404, "There is no such page"),
        ("/told", 405, "This did not work"),
    ],
)
async def test_errors_are_pages_for_browsers_and_json_for_programs(
    url: str, member: User, path: str, status: int, sentence: str
) -> None:
    async with client_of(parts=PARTS) as client:
        await enter(client, member.email)
        page = await client.get(path, headers={**HTML, "x-request-id": "r-4711"})
        assert (page.status_code, page.headers["content-type"]) == (
            status,
            "text/html; charset=utf-8",
        )
        assert sentence in page.text
        assert "r-4711" in page.text
        assert "internals" not in page.text
        assert page.headers["cache-control"] == "no-store"
        program = await client.get(path)
        assert program.status_code == status
        assert program.json()["error"]["message"]
        for name in ("retry-after", "allow"):
            assert page.headers.get(name) == program.headers.get(name)


async def test_without_a_database_browsers_are_told_so() -> None:
    point_at("postgresql://someone@127.0.0.1:1/db")
    async with client_with() as client:
        client.cookies["id"] = "x" * 43
        page = await client.get("/account", headers=HTML)
        assert (page.status_code, page.headers["retry-after"]) == (503, "2")
        assert "The database is unavailable. Try again in a moment." in page.text
        assert "Sign in" not in page.text, "who it is, is not known"
        assert (await client.get("/account")).json()["error"]["code"] == "database_unavailable"
        assert "There is no such page" in (await client.get("/nowhere", headers=HTML)).text


async def test_a_request_that_is_refused_at_once_asks_no_database(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def refuse(*args: Any) -> Any:
        raise AssertionError("the database was asked")

    point_at("postgresql://someone@127.0.0.1:1/db")
    monkeypatch.setattr(Engine, "_run", refuse)
    async with client_with(allowed_hosts=("example.com",)) as client:
        client.cookies["id"] = "x" * 43
        page = await client.get("/account", headers=HTML)
        assert (page.status_code, "another name" in page.text) == (400, True)


async def test_whoever_is_not_signed_in_comes_back_to_the_page(
    client: httpx.AsyncClient, administrator: User
) -> None:
    answer = await client.get("/account?x=1&y=%2F")
    assert answer.status_code == 303
    sign_in = answer.headers["location"]
    assert sign_in == "/sign-in?next=/account%3Fx%3D1%26y%3D%252F"
    assert (await client.post(sign_in, data=ADA | {"password": "wrong"})).status_code == 401
    back = await client.post(sign_in, data=ADA)
    assert (back.status_code, back.headers["location"]) == (303, "/account?x=1&y=%2F")


async def test_a_session_that_ends_in_a_form_leads_back_to_the_forms_page(
    client: httpx.AsyncClient,
) -> None:
    form = {"referer": "http://test/account?tab=2"}
    answer = await client.post("/account/profile", data={}, headers=form)
    assert answer.headers["location"] == "/sign-in?next=/account%3Ftab%3D2"
    for elsewhere in ("http://evil.example/account", "", "http://test//evil.example"):
        answer = await client.post("/account/profile", data={}, headers={"referer": elsewhere})
        assert answer.headers["location"] == "/sign-in"
    part = {"hx-request": "true", "hx-current-url": "http://test/account"}
    answer = await client.get("/account", headers=part)
    assert (answer.status_code, answer.headers["hx-redirect"]) == (401, "/sign-in?next=/account")


@pytest.mark.parametrize(
    "text",
    [
        "", "account", "//evil.example", "///evil.example", "/\\evil.example", "\\\\evil.example",
        "/\t/evil.example", "/\n/evil.example", "https://evil.example", "javascript:alert(1)",
        " /account", "/acc ount", "/é", "/" + "x" * 2_000, "/sign-in", "/sign-in?next=/sign-in",
        "/a\r\nset-cookie: x=1", "\x00/account",
    ],
)  # fmt: skip
async def test_nobody_is_sent_to_another_site(
    client: httpx.AsyncClient, member: User, text: str
) -> None:
    assert local_path(text) == ""
    answer = await client.post(
        "/sign-in", params={"next": text}, data={"email": member.email, "password": PASSWORD}
    )
    assert (answer.status_code, answer.headers["location"]) == (303, "/account")


@pytest.mark.parametrize("text", ["/", "/account", "/people/7?tab=a&x=%2F#y", "/a:b/@c", "/a//b"])
def test_paths_of_ours_are_kept(text: str) -> None:
    assert local_path(text) == text


NINES = "9" * 5000


@pytest.mark.parametrize(
    "path",
    [f"/people/{NINES}", f"/trail/{NINES}", f"/sync/runs/{NINES}", f"/trail?before={NINES}",
     f"/trail?before=-{NINES}", f"/api/trail?before={'0' * 20}{NINES}", f"/people?before={NINES}",
     f"/api/people?before={NINES}", f"/trail/of/users/{NINES}"],
)  # fmt: skip
async def test_numbers_of_any_length_are_no_mistake_of_ours(
    client: httpx.AsyncClient, administrator: User, path: str
) -> None:
    await enter(client, administrator.email)
    assert (await client.get(path)).status_code < 500


@pytest.mark.parametrize(
    "content", ['["\\ud800", false]', "[" * 3000, '{"a": 1, "b": 2}', '"ab"', '["a", "b"]', "["]
)
async def test_a_message_that_is_not_ours_is_none(client: httpx.AsyncClient, content: str) -> None:
    value = base64.urlsafe_b64encode(content.encode()).decode().rstrip("=")
    answer = await client.get("/sign-in", headers={"cookie": f"message={value}"})
    assert answer.status_code == 200
    assert 'role="status"' not in answer.text


@pytest.mark.parametrize("header", ["referer", "hx-current-url"])
async def test_an_address_that_is_none_leads_nowhere(
    client: httpx.AsyncClient, header: str
) -> None:
    headers = {header: "http://[", "hx-request": "true"}
    answer = await client.get("/people", headers=headers)
    assert (answer.status_code, answer.headers["hx-redirect"]) == (401, "/sign-in")


async def test_a_message_is_shown_once_as_text(url: str, member: User) -> None:
    async with client_of(parts=PARTS) as client:
        await enter(client, member.email)
        token = client.headers["x-csrf-token"]
        page = await client.post("/told", data={"csrf_token": token}, follow_redirects=True)
        assert 'class="told failed" role="alert">Done: &lt;b&gt;2&lt;/b&gt; of 3; é' in page.text
        assert "Done:" not in (await client.get("/account")).text
        for nonsense in ("x", "bnVsbA", "WzEsMl0", "W10", "-_-"):
            client.cookies.set("message", nonsense)
            assert (await client.get("/account")).status_code == 200


async def test_the_product_has_the_name_of_the_setting(url: str, administrator: User) -> None:
    async with client_with(app_name="Tools & <b>", mfa_key=SecretStr("k" * 32)) as client:
        for path in ("/sign-in", "/", "/register", "/second-factor", "/api/docs"):
            page = (await client.get(path)).text
            assert "Tools &amp; &lt;b&gt;</title>" in page, path
            assert "Groundwork" not in page, path
        await enter(client, "ada@example.com")
        meta = await client.get("/admin/public/meta/")
        assert meta.json()["site_name"] == "Tools & <b>"


async def test_pages_hold_no_script_and_no_style_of_their_own(
    client: httpx.AsyncClient, administrator: User
) -> None:
    await enter(client, "ada@example.com")
    for path in ("/", "/account", "/sign-in", "/register", "/nowhere"):
        page = (await client.get(path, headers=HTML)).text
        assert re.findall(r"<script(?![^>]* src=)|<style|\sstyle=|\son\w+=|hx-on", page) == [], path
