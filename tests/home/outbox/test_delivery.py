"""Messages are delivered to real servers: at least once, again where they were not, for a day."""

from __future__ import annotations

import asyncio
import base64
import json
import re
from collections.abc import AsyncIterator
from typing import Any

import pytest
from pydantic import SecretStr
from standardwebhooks import Webhook

import piccolo_conf_test as piccolo_conf
from audit.context import Actor, acting_as
from audit.errors import DatabaseUnavailable
from audit.jobs import Job
from home.accounts import links
from home.accounts.links import Kind
from home.database.engine import Engine
from home.outbox import delivery, store
from home.services import Services
from home.tables import User
from tests.home.outbox.receivers import MailServer, Receiver, mail_server, receiver

pytestmark = pytest.mark.any_version

SECRET = "whsec_" + base64.b64encode(b"a key of thirty-two bytes, or so").decode()
OURS = "https://tools.example.com"


@pytest.fixture
async def mails() -> AsyncIterator[MailServer]:
    async with mail_server() as server:
        yield server


@pytest.fixture
async def hooks() -> AsyncIterator[Receiver]:
    async with receiver() as taker:
        yield taker


def services(db: Engine, **settings: Any) -> Services:
    usual = {"public_url": OURS, "mail_from": "Tools <tools@example.com>", "app_name": "Tool shed"}
    return Services(db, db.settings.model_copy(update=usual | settings))


def by_mail(db: Engine, server: MailServer) -> Services:
    return services(db, smtp_url=SecretStr(server.url))


def by_hook(db: Engine, taker: Receiver, **settings: Any) -> Services:
    known = {"webhook_url": (taker.url,), "webhook_secret": SecretStr(SECRET)}
    return services(db, **({"webhook_private": True} | known | settings))


async def deliver(services: Services) -> None:
    jobs: list[Job] = delivery.jobs(services)
    for job in jobs:
        await job.run()


async def put(db: Engine, channel: str, to: str, matter: str | None = None) -> None:
    content = {"title": "Something", "text": "It <happened>.", "path": "/trail/7"}
    await store.put(db, channel, [to], "trail.something", content, matter)


async def row(db: Engine) -> Any:
    return await db.fetchrow("SELECT * FROM outbox ORDER BY id DESC LIMIT 1")


async def due_now(db: Engine) -> None:
    await db.execute("UPDATE outbox SET next_at = now() WHERE sent_at IS NULL")


async def test_a_mail(db: Engine, mails: MailServer) -> None:
    await put(db, "mail", "ada@example.com")
    await deliver(by_mail(db, mails))
    [mail] = mails.mails
    assert (mail["to"], mail["from"]) == ("ada@example.com", "Tools <tools@example.com>")
    assert mail["subject"] == "Tool shed: Something"
    message = await row(db)
    assert mail["message-id"] == f"<{message['uuid']}@example.com>"
    plain, html = (part.get_content() for part in mail.iter_parts())
    assert plain.split() == ["It", "<happened>.", f"{OURS}/trail/7"]
    assert "It &lt;happened&gt;." in html
    assert message["sent_at"] is not None
    assert message["content"] == "{}"
    await deliver(by_mail(db, mails))
    assert len(mails.mails) == 1


async def test_a_link_is_made_when_it_is_sent(db: Engine, mails: MailServer, member: User) -> None:
    made = await links.make(db, member.id, Kind.INVITATION)
    assert made is not None
    await store.put(db, "mail", [member.email], "link.invitation", {"link_id": made[0]})
    mails.answer = "451 later"
    await deliver(by_mail(db, mails))
    mails.answer = "250 OK"
    await due_now(db)
    await deliver(by_mail(db, mails))
    [token] = re.findall(rf"{OURS}/link/([\w-]+)", mails.mails[0].as_string())[:1]
    assert (await links.look(db, token)).email == member.email
    stored = await db.fetchval("SELECT string_agg(t::text, '') FROM outbox t")
    assert token not in stored


@pytest.mark.parametrize("known", [True, False])
async def test_who_forgot_their_password_gets_a_mail_if_there_is_such_an_account(
    db: Engine, mails: MailServer, member: User, known: bool
) -> None:
    to = member.email if known else "nobody@example.com"
    await store.put(db, "mail", [to], "link.password", {})
    await deliver(by_mail(db, mails))
    assert len(mails.mails) == known
    assert (await row(db) is not None) is known  # and nobody sees what strangers typed


@pytest.mark.parametrize(
    ("answer", "is_dead", "error"),
    [
        ("451 try again", False, "The server answered 451."),
        ("550 no such mailbox", True, "The server answered 550."),
        ("nonsense", False, ""),
    ],
)
async def test_a_mail_that_is_not_taken(
    db: Engine, mails: MailServer, answer: str, is_dead: bool, error: str
) -> None:
    mails.answer = answer
    await put(db, "mail", "ada@example.com")
    await deliver(by_mail(db, mails))
    message = await row(db)
    assert (message["dead_at"] is not None) is is_dead
    assert message["error"].startswith(error)
    assert message["content"] != "{}"
    mails.answer = "250 OK"
    assert await store.again(db, message["id"])
    await deliver(by_mail(db, mails))
    assert len(mails.mails) == 1
    assert not await store.again(db, message["id"])


async def test_a_server_that_is_away_is_asked_again_and_again_for_a_day(
    db: Engine, mails: MailServer
) -> None:
    await mails.stop()
    await put(db, "mail", "ada@example.com")
    pauses = []
    for _ in range(12):
        await due_now(db)
        await deliver(by_mail(db, mails))
        pause = await db.fetchval("SELECT extract(epoch FROM next_at - now())::float FROM outbox")
        pauses.append(pause)
    for number, pause in enumerate(pauses):
        expected = min(10 * 2**number, 3600)
        assert expected * 0.9 < pause <= expected * 1.5
    await db.execute("UPDATE outbox SET created_at = now() - interval '25 hours', next_at = now()")
    await deliver(by_mail(db, mails))
    message = await row(db)
    assert message["dead_at"] is not None
    assert message["attempts"] == 13


async def test_a_webhook_is_signed_as_receivers_check_it(db: Engine, hooks: Receiver) -> None:
    await put(db, "webhook", hooks.url)
    await deliver(by_hook(db, hooks))
    [(headers, body)] = hooks.requests
    checked = Webhook(SECRET).verify(body, dict(headers))
    assert checked == json.loads(body)
    assert checked["type"] == "trail.something"
    data = {"title": "Something", "text": "It <happened>.", "url": f"{OURS}/trail/7"}
    assert checked["data"] == data
    assert headers["webhook-id"] == str((await row(db))["uuid"])


async def test_each_attempt_has_the_same_id(db: Engine, hooks: Receiver) -> None:
    await put(db, "webhook", hooks.url)
    await deliver(by_hook(db, hooks))
    await db.execute("UPDATE outbox SET sent_at = NULL")  # as if the process had died just before
    await deliver(by_hook(db, hooks))
    assert len({headers["webhook-id"] for headers, _ in hooks.requests}) == 1
    assert len(hooks.requests) == 2


@pytest.mark.parametrize(
    ("status", "is_dead"), [(500, False), (404, False), (302, False), (410, True)]
)
async def test_a_webhook_that_is_not_taken(
    db: Engine, hooks: Receiver, status: int, is_dead: bool
) -> None:
    hooks.status, hooks.headers = status, {"location": hooks.url}
    await put(db, "webhook", hooks.url)
    await deliver(by_hook(db, hooks))
    message = await row(db)
    assert message["error"] == f"The receiver answered {status}."
    assert (message["dead_at"] is not None) is is_dead


async def test_a_receiver_that_hangs_holds_up_nobody_else(
    db: Engine, hooks: Receiver, mails: MailServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("home.outbox.webhooks.SECONDS", 0.2)
    hooks.pause = 1
    for _ in range(30):
        await put(db, "webhook", hooks.url)
    await put(db, "mail", "ada@example.com")
    await asyncio.gather(deliver(by_hook(db, hooks)), deliver(by_mail(db, mails)))
    assert len(mails.mails) == 1
    errors = await db.fetch("SELECT DISTINCT error FROM outbox WHERE channel = 'webhook'")
    assert [each["error"] for each in errors] == ["TimeoutError"]


async def test_what_was_taken_is_noted_though_the_database_goes_away_for_another(
    db: Engine, hooks: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def failed(*args: Any, **named: Any) -> None:
        raise DatabaseUnavailable("gone")

    monkeypatch.setattr(store, "failed", failed)
    hooks.pause = 0.1
    await put(db, "webhook", hooks.url)
    await put(db, "webhook", "no address")
    with pytest.raises(DatabaseUnavailable):
        await deliver(by_hook(db, hooks))
    assert len(hooks.requests) == 1
    assert await db.fetchval("SELECT count(*) FROM outbox WHERE sent_at IS NOT NULL") == 1


@pytest.mark.parametrize(
    "address",
    [
        "http://127.0.0.1:{port}/hook",
        "http://localhost:{port}/hook",
        "http://[::ffff:127.0.0.1]:{port}/hook",
    ],
)
async def test_nothing_is_sent_to_an_internal_address(
    db: Engine, hooks: Receiver, address: str
) -> None:
    to = address.format(port=hooks.port)
    await put(db, "webhook", to)
    await deliver(by_hook(db, hooks, webhook_private=False))
    assert hooks.requests == []
    assert "internal address" in (await row(db))["error"]


@pytest.mark.parametrize("channel", ["mail", "webhook"])
async def test_a_message_that_makes_no_sense_stops_nobody_else(
    db: Engine, mails: MailServer, hooks: Receiver, channel: str
) -> None:
    to = {"mail": "ada@example.com", "webhook": hooks.url}[channel]
    for kind, content in (
        ("x", "[]"), ("x", "7"), ("x", "null"), ("x", "{}"), ("link.nonsense", "{}"),
        ("link.invitation", '{"link_id": "x"}'), ("x", '{"title": "a\\nb", "text": 7}'),
    ):  # fmt: skip
        await db.execute(
            "INSERT INTO outbox (channel, recipient, kind, content) VALUES ($1, $2, $3, $4)",
            channel, to, kind, content,
        )  # fmt: skip
    await put(db, channel, to)
    await put(db, channel, "no address \n at all")
    await deliver({"mail": by_mail(db, mails), "webhook": by_hook(db, hooks)}[channel])
    sent = "SELECT sent_at FROM outbox WHERE kind = 'trail.something' AND recipient = $1"
    assert await db.fetchval(sent, to) is not None
    waiting = "SELECT count(*) FROM outbox WHERE sent_at IS NULL AND dead_at IS NULL"
    assert await db.fetchval(f"{waiting} AND attempts <> 1") == 0


async def test_two_processes_deliver_each_once(db: Engine, hooks: Receiver) -> None:
    for number in range(100):
        await put(db, "webhook", hooks.url, f"matter:{number}")
    await asyncio.gather(*(deliver(by_hook(db, hooks)) for _ in range(4)))
    assert len({headers["webhook-id"] for headers, _ in hooks.requests}) == 100
    assert len(hooks.requests) == 100


async def test_nobody_is_told_twice_of_one_matter(db: Engine) -> None:
    for _ in range(3):
        await put(db, "mail", "ada@example.com", "superuser:7")
    await put(db, "mail", "olga@example.com", "superuser:7")
    assert await db.fetchval("SELECT count(*) FROM outbox") == 2


async def test_what_is_rolled_back_is_not_told(db: Engine) -> None:
    with pytest.raises(ZeroDivisionError):
        async with db.transaction():
            await put(db, "mail", "ada@example.com")
            raise ZeroDivisionError
    assert await row(db) is None


async def test_old_messages_go(db: Engine) -> None:
    await put(db, "mail", "ada@example.com")
    await put(db, "mail", "ada@example.com")
    await db.execute(
        "UPDATE outbox SET sent_at = now() - interval '91 days'"
        " WHERE id = (SELECT min(id) FROM outbox)"
    )
    with acting_as(Actor("system:outbox")):
        await store.purge(db)
    assert await db.fetchval("SELECT count(*) FROM outbox") == 1


def test_nothing_is_done_where_nothing_is_set_up() -> None:
    assert delivery.jobs(Services(piccolo_conf.DB, piccolo_conf.SETTINGS)) == []
