"""Notices: who hears of what, and no more than once."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

import piccolo_conf_test as piccolo_conf
from audit.record import record
from audit.sealing import waiting
from home.accounts import registration
from home.database.engine import Engine
from home.outbox import notices
from home.outbox.tables import Message
from home.services import Services
from home.tables import User
from home.web.people import csrf_token
from sync_history import sources
from sync_history.sources import Run
from sync_history.tables import SyncRun
from tests.conftest import PASSWORD, client_with, enter

pytestmark = pytest.mark.any_version

HOOK = "https://hooks.example.com/x"


def services(db: Engine, **settings: Any) -> Services:
    usual = {
        "public_url": "https://tools.example.com", "smtp_url": SecretStr("smtp://127.0.0.1:9"),
        "mail_from": "tools@example.com", "webhook_url": (HOOK,),
        "webhook_secret": SecretStr("x"),
    }  # fmt: skip
    return Services(db, db.settings.model_copy(update=usual | settings))


async def look(db: Engine, **settings: Any) -> list[tuple[str, str, str]]:
    """Look twice; return who is told what, since the last time."""
    await db.execute("UPDATE outbox SET attempts = 1")
    ours = services(db, **settings)
    looks = [each for _, each in piccolo_conf.APP_REGISTRY.all("notices", ours)]
    for _ in range(2):
        await notices.job(ours, looks).run()
    rows = await db.fetch(
        "SELECT channel, recipient, kind FROM outbox WHERE attempts = 0 ORDER BY channel, id"
    )
    return [tuple(row.values()) for row in rows]


async def test_who_waits_is_told_of_once_in_a_while(db: Engine, administrator: User) -> None:
    await db.execute("DELETE FROM outbox")
    await look(db)
    await registration.register(db, "new@example.com", PASSWORD)
    await registration.register(db, "newer@example.com", PASSWORD)
    expected = [("mail", "ada@example.com", "people.waiting"), ("webhook", HOOK, "people.waiting")]
    assert await look(db) == expected
    content = await db.fetchval("SELECT content FROM outbox WHERE kind = 'people.waiting' LIMIT 1")
    assert json.loads(content)["title"] == "2 people wait for approval"
    await registration.register(db, "newest@example.com", PASSWORD)
    assert await look(db) == []
    await db.execute("UPDATE outbox SET created_at = now() - interval '16 minutes'")
    assert len(await look(db)) == 2


async def test_a_superuser_that_was_made_by_whatever_way(db: Engine, administrator: User) -> None:
    await look(db)
    sue = await User.create_user("sue@example.com", PASSWORD, is_approved=True)
    await look(db)
    await db.execute("UPDATE users SET is_superuser = true, is_admin = true WHERE id = $1", sue.id)
    expected = [("mail", each, "people.superuser") for each in (administrator.email, sue.email)]
    assert await look(db) == [*expected, ("webhook", HOOK, "people.superuser")]
    content = await db.fetchval(
        "SELECT content FROM outbox WHERE kind = 'people.superuser' ORDER BY id DESC LIMIT 1"
    )
    assert "sue@example.com became a superuser" in content


async def test_a_run_that_needs_a_look(db: Engine, administrator: User) -> None:
    await look(db)
    await SyncRun(
        source="crm", status="failed", needs_attention=True, attention_reason="It failed.",
        started_at=datetime.now(UTC), completed_at=datetime.now(UTC),
    ).save()  # fmt: skip
    assert [each[2] for each in await look(db)] == ["sync.attention"] * 2


async def test_a_source_that_is_overdue_is_told_of_once(
    db: Engine, administrator: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def nothing(run: Run) -> None:
        pass

    monkeypatch.setattr(sources, "_registry", {})
    sources.source("crm", every=timedelta(minutes=1))(nothing)
    await look(db)
    before = datetime.now(UTC) - timedelta(minutes=13)
    await SyncRun(
        source="crm", status="succeeded", due_at=before, started_at=before, completed_at=before
    ).save()
    assert [each[2] for each in await look(db)] == ["sync.overdue"] * 2
    assert await look(db) == []


async def test_a_trail_that_is_not_as_it_was_sealed_or_not_sealed(
    db: Engine, administrator: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    await look(db)
    await record(db, "audit.verify", "audit_logs", None, {"intact": True})
    assert await look(db) == []
    await record(db, "audit.verify", "audit_logs", None, {"intact": False})
    assert [each[2] for each in await look(db)] == ["trail.not_intact"] * 2
    monkeypatch.setattr(waiting, "seconds", 5 * 3600)
    assert [each[2] for each in await look(db, audit_seal_interval=3600)] == [
        "trail.not_sealed"
    ] * 2


async def test_the_setting_says_who_is_told(db: Engine, administrator: User) -> None:
    told = await look(db, notify=("security@example.com", "ops@example.com"), webhook_url=())
    assert [each[1] for each in told] == ["security@example.com", "ops@example.com"]


async def test_people_hear_of_their_own_account(
    client: httpx.AsyncClient, db: Engine, member: User
) -> None:
    await enter(client, member.email)  # the first time that they come at all
    assert await look(db) == []
    known = client.cookies["device"]
    client.cookies.clear()
    await enter(client, member.email)
    assert await look(db) == [("mail", "mel@example.com", "account.new_device")]
    client.cookies.clear()
    client.cookies["device"] = known
    await enter(client, member.email)
    assert await look(db) == []
    await User.update_password(member.id, "another rather long phrase")
    assert await look(db) == [("mail", "mel@example.com", "account.password")]


async def test_the_page_shows_what_died_and_sends_it_again(
    url: str, administrator: User, member: User
) -> None:
    settings = {
        "smtp_url": SecretStr("smtp://127.0.0.1:9"), "mail_from": "t@example.com",
        "public_url": "http://test",
    }  # fmt: skip
    async with client_with(**settings) as client:  # type: ignore[arg-type]
        await enter(client, administrator.email)
        assert "nothing to tell yet" in (await client.get("/messages")).text
        message = Message(
            channel="mail", recipient="<b>@example.com", kind="trail.something", content="{}",
            dead_at=datetime.now(UTC), error="The server answered 550.", attempts=1,
        )  # fmt: skip
        await message.save()
        page = (await client.get("/messages")).text
        assert "The server answered 550." in page
        assert "<b>@" not in page
        assert "1 message could not be delivered." in (await client.get("/")).text
        fields = {"csrf_token": csrf_token(client.cookies["id"])}
        headers = {"origin": "http://test"}
        for number, sentence in ((message.id, "tried again now"), (4711, "or is gone")):
            await client.post("/messages/again", data=fields | {"message": number}, headers=headers)
            assert sentence in (await client.get("/messages")).text
        [row] = await Message.select(Message.dead_at).where(Message.id == message.id)
        assert row["dead_at"] is None or "waits" in page


async def test_who_may_see_messages(url: str, member: User) -> None:
    settings = {"webhook_url": (HOOK,), "webhook_secret": SecretStr("x" * 32)}
    async with client_with(**settings) as client:  # type: ignore[arg-type]
        await enter(client, member.email)
        answer: httpx.Response = await client.get("/messages")
        assert answer.status_code == 403
