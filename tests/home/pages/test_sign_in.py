"""Pages without scripts: what people meet before they are let in."""

from __future__ import annotations

import httpx
import pytest

from home.tables import Session, User
from tests.conftest import PASSWORD, client_with

pytestmark = pytest.mark.any_version

ADA = {"email": "ada@example.com", "password": PASSWORD}
EVE = {"email": "eve@example.com", "password": "a rather long phrase", "display_name": "Eve"}


async def test_signing_in_leads_administrators_to_the_overview(
    client: httpx.AsyncClient, administrator: User
) -> None:
    answer = await client.post("/sign-in", data=ADA)
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    assert "HttpOnly" in answer.headers["set-cookie"]
    assert "ada@example.com" in (await client.get("/api/me")).text


@pytest.mark.parametrize(
    ("who", "where"),
    [(None, "/sign-in?next=/admin/"), ("mel@example.com", "/account"), ("ada@example.com", None)],
)
async def test_the_back_office_sends_others_where_they_belong(
    client: httpx.AsyncClient, administrator: User, member: User, who: str | None, where: str | None
) -> None:
    if who:
        await client.post("/sign-in", data={"email": who, "password": PASSWORD})
    answer = await client.get("/admin/")
    assert answer.headers.get("location") == where
    assert answer.status_code == (303 if where else 200)


async def test_a_failure_is_told_and_gives_back_the_address_alone(
    client: httpx.AsyncClient, administrator: User
) -> None:
    answer = await client.post("/sign-in", data=ADA | {"password": "some-wrong-password"})
    assert answer.status_code == 401
    assert "Wrong e-mail address, password or code." in answer.text
    assert 'value="ada@example.com"' in answer.text
    assert "some-wrong-password" not in answer.text


async def test_too_many_failures_say_when_to_come_back(
    client: httpx.AsyncClient, administrator: User
) -> None:
    for _ in range(5):
        await client.post("/sign-in", data=ADA | {"password": "wrong"})
    answer = await client.post("/sign-in", data=ADA)
    assert (answer.status_code, "Try again in" in answer.text) == (429, True)


async def test_asking_for_an_account(client: httpx.AsyncClient, administrator: User) -> None:
    for form in (EVE, EVE, EVE | {"email": "ada@example.com"}):
        assert "has been asked" in (await client.post("/register", data=form)).text
    eve = await User.objects().where(User.email == "eve@example.com").first()
    assert eve is not None
    assert (eve.is_approved, eve.display_name) == (False, "Eve")
    waits = await client.post("/sign-in", data=EVE)
    assert (waits.status_code, "waits for approval" in waits.text) == (403, True)
    wrong = await client.post("/sign-in", data=EVE | {"password": "another long phrase"})
    assert (wrong.status_code, "approval" in wrong.text) == (401, False)
    await User.update({User.is_disabled: True}).where(User.id == eve.id)
    disabled = await client.post("/sign-in", data=EVE)
    assert (disabled.status_code, "is disabled" in disabled.text) == (403, True)
    assert not await Session.exists()


@pytest.mark.parametrize(
    "change",
    [
        {"password": "short"},
        {"password": "football1"},
        {"email": "nobody"},
        {"email": "a\x00@example.com"},
        {"email": "<script>@x"},
    ],
)
async def test_what_cannot_be_an_account_is_refused_with_a_sentence(
    client: httpx.AsyncClient, change: dict[str, str]
) -> None:
    answer = await client.post("/register", data=EVE | change)
    accepted = change["email"] == "<script>@x" if "email" in change else False
    assert (answer.status_code == 200) == accepted
    assert 'role="alert"' in answer.text or accepted
    assert "<script>" not in answer.text


async def test_a_closed_door(url: str) -> None:
    async with client_with(registration=False) as client:
        assert (await client.post("/register", data=EVE)).status_code == 403
        assert "Ask for an account" not in (await client.get("/sign-in")).text
        assert not await User.exists()


@pytest.mark.parametrize("path", ["/sign-in", "/register", "/second-factor"])
async def test_odd_forms_are_refused_and_no_error(
    client: httpx.AsyncClient, administrator: User, path: str
) -> None:
    files = {"password": ("p.txt", b"x" * 100), "email": ("e.txt", b"ada@example.com")}
    kind = {"content-type": "multipart/form-data; boundary=x"}
    for answer in (
        await client.post(path),
        await client.post(path, files=files),
        await client.post(path, content=b"--x\r\nbroken", headers=kind),
        await client.post(path, content=b"email=%00&password=%ff&code=%ed%a0%80", headers={
            "content-type": "application/x-www-form-urlencoded"}),
        await client.post(path, json=[1]),
    ):  # fmt: skip
        assert 400 <= answer.status_code < 500, answer.text
    assert not await Session.exists()
