"""One-time links: what they do, once, and what ends them."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator

import httpx
import pytest
from pydantic import SecretStr

from audit.errors import Refused
from audit.tables import AuditLog
from home.accounts import links
from home.accounts.links import Kind, WrongLink
from home.database.engine import Engine
from home.outbox.tables import Message
from home.pages import links as pages
from home.tables import Session, User
from home.web.people import csrf_token
from tests.conftest import PASSWORD, client_with, enter

pytestmark = pytest.mark.any_version

NEW = "a new and rather long passphrase"


@pytest.fixture(autouse=True)
def nobody_failed() -> None:
    pages.failures.clear()


@pytest.fixture
async def by_mail(url: str) -> AsyncIterator[httpx.AsyncClient]:
    """An outsider, where links are mailed; nobody takes the mails."""
    settings = {
        "smtp_url": SecretStr("smtp://127.0.0.1:9"), "mail_from": "tools@example.com",
        "public_url": "https://tools.example.com",
    }  # fmt: skip
    async with client_with(**settings) as client:  # type: ignore[arg-type]
        yield client


async def post(client: httpx.AsyncClient, path: str, **fields: object) -> httpx.Response:
    if "id" in client.cookies:
        fields["csrf_token"] = csrf_token(client.cookies["id"])
    return await client.post(path, data=fields, headers={"origin": "http://test"})


async def told(client: httpx.AsyncClient, answer: httpx.Response) -> str:
    return (await client.get(answer.headers["location"])).text


async def made(db: Engine, user: User, kind: Kind = Kind.PASSWORD, email: str = "") -> str:
    found = await links.make(db, user.id, kind, email=email or None)
    assert found is not None
    return found[1]


def link_on(page: httpx.Response) -> str:
    [found] = re.findall(r"<code>http://test(/link/[\w-]{43})</code>", page.text)
    return str(found)


async def test_who_is_invited_chooses_a_password_and_is_in(
    client: httpx.AsyncClient, administrator: User, db: Engine
) -> None:
    await enter(client, administrator.email)
    page = await post(client, "/people/invite", email="New@Example.com", display_name="Nel")
    link = link_on(page)
    again = await post(client, "/people/invite", email="new@example.com")
    assert "already an account" in await told(client, again)
    assert "not a valid" in await told(client, await post(client, "/people/invite", email="new"))
    client.cookies.clear()
    for _ in range(3):  # who only looks, such as a scanner of mails, uses nothing up
        assert "new@example.com" in (await client.get(link)).text
        assert (await client.head(link)).status_code == 200
    assert (await post(client, link, new=NEW, again="other")).status_code == 422
    assert (await post(client, link, new="short", again="short")).status_code == 422
    answer = await post(client, link, new=NEW, again=NEW)
    assert "Your password is stored" in await told(client, answer)
    body = {"email": "new@example.com", "password": NEW}
    assert (await client.post("/api/sign-in", json=body)).status_code == 200
    row = await db.fetchrow("SELECT approved_by, is_approved FROM users WHERE email LIKE 'new%'")
    assert row is not None
    assert tuple(row.values()) == (administrator.id, True)
    for method in (client.get(link), post(client, link, new=NEW, again=NEW)):
        assert (await method).status_code == 404


async def test_what_is_stored_opens_nothing(
    client: httpx.AsyncClient, member: User, db: Engine
) -> None:
    token = await made(db, member)
    stored = await db.fetchval("SELECT string_agg(t::text, '') FROM one_time_links t")
    trail = await db.fetchval("SELECT string_agg(t::text, '') FROM audit_logs t")
    digest = await db.fetchval("SELECT digest FROM one_time_links")
    assert token not in stored
    assert digest not in trail
    assert (await client.get(f"/link/{digest}")).status_code == 404


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE users SET password_hash = 'x'",
        "UPDATE users SET email = 'other@example.com'",
        "UPDATE users SET is_admin = true",
        "UPDATE users SET is_disabled = true",
        "UPDATE one_time_links SET expires_at = now()",
        "UPDATE one_time_links SET used_at = now()",
        "UPDATE one_time_links SET created_at = now() + interval '1 year'",
    ],
)
async def test_it_ends_with_what_it_was_made_for(
    client: httpx.AsyncClient, member: User, db: Engine, change: str
) -> None:
    token = await made(db, member)
    assert (await client.get(f"/link/{token}")).status_code == 200
    await db.execute(change)
    assert (await client.get(f"/link/{token}")).status_code == 404
    with pytest.raises(WrongLink):
        await links.choose_password(db, token, NEW)


async def test_a_later_link_ends_the_one_before(member: User, db: Engine) -> None:
    first, second = [await made(db, member, Kind.INVITATION) for _ in range(2)]
    with pytest.raises(WrongLink):
        await links.look(db, first)
    assert (await links.look(db, second)).email == member.email


async def test_of_many_who_use_it_at_once_one_does(member: User, db: Engine) -> None:
    token = await made(db, member)
    passwords = [f"{NEW} {n}" for n in range(5)]
    found = await asyncio.gather(
        *(links.choose_password(db, token, each) for each in passwords), return_exceptions=True
    )
    assert [type(each) for each in found].count(type(None)) == 1
    assert [type(each) for each in found].count(WrongLink) == 4


async def test_a_new_password_ends_sessions(member: User, db: Engine) -> None:
    await Session.create_session(member.id)
    await links.choose_password(db, await made(db, member), NEW)
    assert not await Session.exists()


async def test_who_is_kept_out_gets_none(member: User, db: Engine) -> None:
    await db.execute("UPDATE users SET is_disabled = true")
    assert await links.make(db, member.id, Kind.PASSWORD) is None
    await db.execute("UPDATE users SET is_disabled = false, is_service = true, password_hash = ''")
    assert await links.make(db, member.id, Kind.PASSWORD) is None


async def test_superusers_hand_one_over(
    client: httpx.AsyncClient, administrator: User, member: User, db: Engine
) -> None:
    await enter(client, administrator.email)
    link = link_on(await post(client, f"/people/{member.id}/link"))
    assert (await post(client, link, new=NEW, again=NEW)).status_code == 303
    assert (await post(client, "/people/4711/link")).status_code == 404
    own = await post(client, f"/people/{administrator.id}/link")
    assert "with the old one" in await told(client, own)
    olga = await User.create_user("olga@example.com", PASSWORD, is_admin=True, is_approved=True)
    with pytest.raises(Refused):
        await links.for_somebody(db, olga.id, administrator.id)


async def test_who_forgot_their_password_is_told_the_same_as_everybody(
    by_mail: httpx.AsyncClient, member: User
) -> None:
    pages_ = [
        (await by_mail.post("/forgotten", data={"email": email})).text
        for email in (member.email, "nobody@example.com", "nonsense", "x" * 500, "a\0b@c")
    ]
    assert len({*pages_}) == 1
    rows = await Message.select(Message.recipient, Message.kind, Message.content)
    assert [row["recipient"] for row in rows] == [member.email, "nobody@example.com"]
    assert {(row["kind"], row["content"]) for row in rows} == {("link.password", "{}")}


async def test_asking_is_limited(by_mail: httpx.AsyncClient, member: User) -> None:
    found = [
        (await by_mail.post("/forgotten", data={"email": member.email})).status_code
        for _ in range(21)
    ]
    assert found == [200] * 20 + [429]
    assert await Message.count() <= 2  # two, where ten minutes end in between


async def test_an_address_changes_once_it_is_confirmed(
    by_mail: httpx.AsyncClient, member: User, administrator: User, db: Engine
) -> None:
    await enter(by_mail, member.email)
    wrong = await post(by_mail, "/account/address", email="new@example.com", password="wrong")
    assert "current password is wrong" in await told(by_mail, wrong)
    for email in ("new", "a@[", "boss,a@example.com", "x<b@c.d>", "a" * 300 + "@b.c"):
        none = await post(by_mail, "/account/address", email=email, password=PASSWORD)
        assert "not a valid" in await told(by_mail, none)
    asked = await post(by_mail, "/account/address", email="New@example.com", password=PASSWORD)
    assert "on its way to new@example.com" in await told(by_mail, asked)
    [row] = await Message.select(Message.recipient, Message.kind)
    assert (row["recipient"], row["kind"]) == ("new@example.com", "link.address")
    token = await links.token_for(db, await db.fetchval("SELECT id FROM one_time_links"))
    assert token is not None
    with pytest.raises(WrongLink):
        await links.choose_password(db, token, NEW)
    assert "signs in as" in (await by_mail.get(f"/link/{token}")).text
    answer = await post(by_mail, f"/link/{token}")
    assert "new@example.com" in await told(by_mail, answer)
    assert not await Session.exists()
    assert await User.exists().where(User.email == "new@example.com")
    told_ = await Message.select(Message.recipient).where(Message.kind == "account.address")
    assert told_ == [{"recipient": "mel@example.com"}]  # who may be another person
    token = await made(db, member, Kind.ADDRESS, administrator.email)
    assert (await by_mail.post(f"/link/{token}")).status_code == 404  # it is somebody's by now


async def test_with_mail_nobody_sees_the_link(
    by_mail: httpx.AsyncClient, administrator: User, member: User
) -> None:
    await enter(by_mail, administrator.email)
    answer = await post(by_mail, "/people/invite", email="new@example.com")
    assert "on its way" in await told(by_mail, answer)
    answer = await post(by_mail, f"/people/{member.id}/link")
    assert "on its way" in await told(by_mail, answer)
    kinds = {row["kind"] for row in await Message.select(Message.kind)}
    assert kinds == {"link.invitation", "link.password"}


async def test_guesses_are_slowed_down(client: httpx.AsyncClient) -> None:
    found = [(await client.get(f"/link/{n:043}")).status_code for n in range(25)]
    assert found == [404] * 20 + [429] * 5
    assert await AuditLog.count().where(AuditLog.action == "link.refused") == 20


async def test_without_mail_there_is_nothing_of_it(client: httpx.AsyncClient) -> None:
    assert (await client.get("/forgotten")).status_code == 404
    assert "Forgotten" not in (await client.get("/sign-in")).text
    assert (await client.get("/messages")).status_code == 404
