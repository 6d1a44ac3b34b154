"""Sign-ins with a password that is replaced at this very moment, at two real processes."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from http.cookiejar import CookieJar, DefaultCookiePolicy

import httpx
import pytest

from home.accounts.sessions import digest
from home.database.engine import Engine
from home.tables import Session, User
from tests.conftest import PASSWORD
from tests.live import Live, running

pytestmark = [pytest.mark.any_version, pytest.mark.direct]

AT_ONCE = 6
TURN = "SELECT pg_advisory_xact_lock(hashtextextended($1, 0))"
WAITING = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"


@dataclass
class Race:
    """Somebody whose password is known to others, and two processes."""

    person: User
    password: str
    ada: httpx.AsyncClient
    anybody: list[httpx.AsyncClient]

    async def sign_in(self, number: int) -> bool:
        """Sign in with the old password, at either process, in either way."""
        client = self.anybody[number % 2]
        address = {"x-forwarded-for": f"198.51.100.{self.person.id % 250}"}
        if number % 4 < 2:
            body = {"email": self.person.email, "password": self.password}
            answer = await client.post("/api/sign-in", json=body, headers=address)
        else:
            csrf = {"cookie": "csrftoken=x", "x-csrftoken": "x"}
            body = {"username": self.person.email, "password": self.password}
            path = "/admin/public/login/"
            answer = await client.post(path, json=body, headers=csrf | address)
        assert answer.status_code in (200, 401, 403, 429, 503), answer.text
        return answer.status_code == 200

    async def send(self, form: str) -> None:
        path, body = f"/admin/api/forms/{form}/", {"email": self.person.email}
        while "Too many" in (answer := await self.ada.post(path, json=body)).text:
            pass  # the others have all slots to hash
        assert answer.status_code == 200, answer.text

    async def give_password(self) -> None:
        await self.send("give-a-new-password")

    async def disable_and_enable(self) -> None:
        await self.send("disable-a-person")
        await self.send("enable-a-person")

    async def change_password(self) -> None:
        client, me = self.anybody[0], {"email": self.person.email, "password": self.password}
        address = {"x-forwarded-for": "198.51.100.254"}
        while (
            begun := await client.post("/api/sign-in", json=me, headers=address)
        ).status_code == 503:
            pass  # the others have all slots to hash
        headers = address | {
            "x-csrf-token": begun.json()["csrf_token"],
            "cookie": f"id={begun.cookies['id']}",
        }
        change = {"old": self.password, "new": f"{self.password} anew"}
        answer = await client.post("/api/me/password", json=change, headers=headers)
        assert answer.status_code == 200, answer.text
        await Session.delete().where(
            Session.sid == digest(answer.cookies["id"])
        )  # the only one of the new password


@pytest.fixture
async def clients(
    db: Engine, url: str, administrator: User
) -> AsyncIterator[tuple[httpx.AsyncClient, list[httpx.AsyncClient]]]:
    """Ada's browser, and one for each of two processes that keeps no cookies."""
    async with AsyncExitStack() as stack:
        lives = [stack.enter_context(running(url, TRUSTED_PROXIES="127.0.0.0/8")) for _ in range(2)]
        ada = await stack.enter_async_context(at(lives[0]))
        await ada.get("/admin/public/meta/")
        ada.headers["x-csrftoken"] = ada.cookies["csrftoken"]
        body = {"username": administrator.email, "password": PASSWORD}
        assert (await ada.post("/admin/public/login/", json=body)).status_code == 200
        forgetful = CookieJar(DefaultCookiePolicy(allowed_domains=[]))
        yield ada, [await stack.enter_async_context(at(live, forgetful)) for live in lives]


def at(live: Live, cookies: CookieJar | None = None) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=live.address, timeout=30, cookies=cookies)


Change = Callable[[Race], Awaitable[None]]


async def at_random(race: Race, change: Change) -> int:
    """Let the change come at some moment; returns how many sign-ins were good."""
    tries = [asyncio.create_task(race.sign_in(number)) for number in range(AT_ONCE)]
    await asyncio.sleep(random.uniform(0, 0.15))
    await change(race)
    return sum(await asyncio.gather(*tries))


async def in_flight(db: Engine, race: Race, change: Change) -> int:
    """Let the change come when all have hashed and none has been decided about."""
    async with db.transaction():
        await db.fetch(TURN, f"sign_in {race.person.email}")
        tries = [asyncio.create_task(race.sign_in(number)) for number in range(AT_ONCE)]
        while await db.fetchval(WAITING) < AT_ONCE - sum(each.done() for each in tries):
            await asyncio.sleep(0.005)  # whoever is done was too slow for a slot to hash
        assert not all(each.done() for each in tries)
        await change(race)
    return sum(await asyncio.gather(*tries))


@pytest.mark.parametrize("races", [4, pytest.param(50, marks=pytest.mark.long)])
@pytest.mark.parametrize(
    ("change", "moment"),
    [
        (Race.change_password, "random"),
        (Race.give_password, "random"),
        (Race.give_password, "in flight"),
        (Race.disable_and_enable, "in flight"),
    ],
)
async def test_no_session_of_before_is_left(
    clients: tuple[httpx.AsyncClient, list[httpx.AsyncClient]],
    db: Engine,
    change: Change,
    moment: str,
    races: int,
) -> None:
    ada, anybody = clients
    left = good = 0
    for number in range(races):
        password = f"{PASSWORD} {number}"
        person = await User.create_user(f"p{number}@example.com", password, is_approved=True)
        race = Race(person, password, ada, anybody)
        if moment == "random":
            good += await at_random(race, change)
        else:
            good += await in_flight(db, race, change)
        left += await Session.count().where(Session.user_id == person.id)
    name = getattr(change, "__name__", "")
    print(
        f"{name}, {moment}: {races} races of {AT_ONCE} sign-ins, {good} good before the change,"
        f" {left} sessions left after it"
    )
    assert left == 0
    if moment == "in flight":
        assert good == 0
