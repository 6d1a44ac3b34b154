"""How long a session opens the door, and that nothing else does."""

from __future__ import annotations

import base64
import re
from datetime import timedelta

import httpx
import pytest

from home.accounts import sessions
from home.database.engine import Engine
from home.tables import Session, User
from tests.conftest import PASSWORD, sign_in

pytestmark = pytest.mark.any_version

MEL = {"email": "mel@example.com", "password": PASSWORD}
LEFT = "SELECT expire - now() AS idle, max_expire - now() AS whole FROM sessions"


async def test_a_dump_lets_nobody_in(client: httpx.AsyncClient, db: Engine, member: User) -> None:
    await client.post("/api/sign-in", json=MEL)
    await client.patch("/api/me", json={"display_name": "Mel"})
    assert (await client.get("/api/me")).status_code == 200
    client.cookies.clear()
    names = "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"
    tables = [row["tablename"] for row in await db.fetch(names)]
    found: set[str] = set()
    for table in tables:
        for row in await db.fetch(f"SELECT t::text AS line FROM {table} t"):
            found |= set(re.findall(r"[\w$=/+-]{16,}", row["line"]))
    [sid] = await Session.select(Session.sid).output(as_list=True)
    assert sid in found
    for each in found:
        answer = await client.get("/api/me", headers={"cookie": f"id={each}"})
        assert answer.status_code == 401


@pytest.mark.parametrize(
    ("is_admin", "idle", "whole"),
    [(False, timedelta(minutes=30), timedelta(hours=12)),
     (True, timedelta(minutes=15), timedelta(hours=8))],
)  # fmt: skip
async def test_a_session_has_two_ends(
    client: httpx.AsyncClient, db: Engine, member: User,
    is_admin: bool, idle: timedelta, whole: timedelta,
) -> None:  # fmt: skip
    await User.update({User.is_admin: is_admin}).where(User.id == member.id)
    await client.post("/api/sign-in", json=MEL)
    [left] = await db.fetch(LEFT)
    minute = timedelta(minutes=1)
    assert idle - minute < left["idle"] <= idle
    assert whole - minute < left["whole"] <= whole


@pytest.mark.parametrize("column", ["expire", "max_expire"])
async def test_at_either_end_it_is_over(
    client: httpx.AsyncClient, db: Engine, member: User, column: str
) -> None:
    await client.post("/api/sign-in", json=MEL)
    await db.fetch(f"UPDATE sessions SET {column} = now() - interval '1 second'")
    assert (await client.get("/api/me")).status_code == 401


async def test_those_of_a_clock_that_was_ahead_are_not_good_and_go_first(
    client: httpx.AsyncClient, db: Engine, member: User
) -> None:
    ahead = """
        UPDATE sessions SET created_at = created_at + $1, expire = expire + $1,
            max_expire = max_expire + $1, last_seen_at = last_seen_at + $1
    """
    for _ in range(10):
        client.cookies.clear()
        await client.post("/api/sign-in", json=MEL)
    await db.execute(ahead, timedelta(days=3650))
    assert (await client.get("/api/me")).status_code == 401
    for _ in range(2):  # the second one ends none of the good ones
        client.cookies.clear()
        await client.post("/api/sign-in", json=MEL)
    assert len((await client.get("/api/me/sessions")).json()["sessions"]) == 2
    assert await Session.count() == 10
    assert await sessions.purge(db) == 8
    assert (await client.get("/api/me")).status_code == 200
    await db.execute("UPDATE sessions SET max_expire = now() + interval '1 day'")
    assert (await client.get("/api/me")).status_code == 401


async def test_use_moves_the_first_end_and_not_beyond_the_second(
    client: httpx.AsyncClient, db: Engine, member: User
) -> None:
    await client.post("/api/sign-in", json=MEL)
    used = "UPDATE sessions SET last_seen_at = now() - interval '2 minutes', expire = "
    await db.fetch(used + "now() + interval '1 minute'")
    await client.get("/api/me")
    [left] = await db.fetch(LEFT)
    assert left["idle"] > timedelta(minutes=29)
    await db.fetch(used + "now() + interval '1 minute', max_expire = now() + interval '5 min'")
    await client.get("/api/me")
    [left] = await db.fetch(LEFT)
    assert left["idle"] <= timedelta(minutes=5)


async def test_use_is_written_once_a_minute(
    client: httpx.AsyncClient, db: Engine, member: User
) -> None:
    await client.post("/api/sign-in", json=MEL)
    before = await Session.select(Session.last_seen_at, Session.expire)
    await client.get("/api/me")
    assert await Session.select(Session.last_seen_at, Session.expire) == before


async def test_whoever_is_disabled_while_signing_in_is_refused(
    client: httpx.AsyncClient, member: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    await User.update({User.is_disabled: True}).where(User.id == member.id)

    async def just_before(**_: str) -> int:
        return member.id

    monkeypatch.setattr(User, "login", just_before)
    answer = await sign_in(client, member.email)
    assert (answer.status_code, answer.json()["error"]["code"]) == (401, "unauthorized")


@pytest.mark.parametrize(("is_admin", "minutes"), [(False, 30), (True, 15)])
async def test_use_moves_the_end_as_far_as_signing_in_does(
    client: httpx.AsyncClient, db: Engine, member: User, is_admin: bool, minutes: int
) -> None:
    await User.update({User.is_admin: is_admin}).where(User.id == member.id)
    await client.post("/api/sign-in", json=MEL)
    await db.fetch("UPDATE sessions SET last_seen_at = now() - interval '2 minutes'")
    await client.get("/api/me")
    [row] = await db.fetch("SELECT expire - last_seen_at AS idle FROM sessions")
    assert row["idle"] == timedelta(minutes=minutes)


async def test_a_token_has_256_bits_and_is_another_one_each_time(
    client: httpx.AsyncClient, member: User
) -> None:
    tokens = set()
    for _ in range(2):
        await client.post("/api/sign-in", json=MEL)
        tokens.add(client.cookies["id"])
    assert [len(base64.urlsafe_b64decode(f"{token}=")) for token in tokens] == [32, 32]
