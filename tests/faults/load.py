"""People who change their preferences without a pause, and a count of what became of it."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import asyncpg
import httpx

import piccolo_conf
from home.tables import User
from tests.conftest import PASSWORD

# Deadlines are those of the fault table, four times: tests run beside each other on slow machines,
# and what hangs takes longer. What a quiet machine measured is in docs/reliability.md.
SLACK = 4.0
VALUES = """
    SELECT user_id, details -> 'after' -> 'preferences' AS preferences FROM audit_logs
    WHERE resource = 'user_preferences' ORDER BY id
"""


@dataclass
class Count:
    """Of changes: answered with 200, on the trail, answered but not there, there twice."""

    acknowledged: int
    found: int
    lost: int
    duplicated: int


@dataclass
class Load:
    """Changes through the API, each with a value of its own.

    Args:
        address: of the application, which may come and go.
    """

    address: str
    emails: list[str]
    acknowledged: dict[str, float] = field(default_factory=dict)  # value -> when
    refused: list[float] = field(default_factory=list)  # changes answered with 503, when
    unanswered: int = 0
    slowest: float = 0.0  # seconds until an answer, or until the connection ended
    wrong: list[str] = field(default_factory=list)  # answers that should not be

    async def person(self, email: str) -> None:
        """Sign in, and change the preferences until cancelled."""
        client = httpx.AsyncClient(base_url=self.address, timeout=30)
        number = 0
        try:
            while True:
                if not client.cookies:
                    await self._sign_in(client, email)
                    continue
                number += 1
                value = f"{email} {time.monotonic_ns()} {number}"
                started = time.monotonic()
                answer = await self._ask(client, "PUT", "/api/me/preferences", {"value": value})
                self.slowest = max(self.slowest, time.monotonic() - started)
                if answer is not None and answer.status_code == 200:
                    self.acknowledged[value] = time.monotonic()
                elif answer is None or answer.status_code == 503:
                    if answer is not None:
                        self.refused.append(time.monotonic())
                    await asyncio.sleep(0.01)
                else:
                    self.wrong.append(f"{answer.status_code} {answer.text}")
                    await asyncio.sleep(0.1)
        finally:
            await client.aclose()

    async def _sign_in(self, client: httpx.AsyncClient, email: str) -> None:
        body = {"email": email, "password": PASSWORD}
        answer = await self._ask(client, "POST", "/api/sign-in", body)
        if answer is None or answer.status_code != 200:
            client.cookies.clear()
            await asyncio.sleep(0.05)
        else:
            client.headers["x-csrf-token"] = answer.json()["csrf_token"]

    async def _ask(
        self, client: httpx.AsyncClient, method: str, path: str, body: dict[str, str]
    ) -> httpx.Response | None:
        try:
            answer = await client.request(method, path, json=body)
        except httpx.TransportError:
            self.unanswered += 1
            return None
        if answer.status_code == 503:
            assert answer.headers["retry-after"]
        return answer

    async def until_acknowledged(self, more: int) -> None:
        """Wait for further changes that were acknowledged."""
        goal = len(self.acknowledged) + more
        async with asyncio.timeout(30):
            while len(self.acknowledged) < goal:
                await asyncio.sleep(0.005)

    async def count(self, url: str) -> Count:
        """What the trail says."""
        connection = await asyncpg.connect(url)
        rows = await connection.fetch(VALUES)
        last = await connection.fetch("SELECT preferences ->> 'value' FROM user_preferences")
        await connection.close()
        recorded = Counter(json.loads(row["preferences"]).get("value") for row in rows)
        assert {row[0] for row in last} <= recorded.keys(), "a change without its record"
        found = sum(value in recorded for value in self.acknowledged)
        return Count(
            len(self.acknowledged),
            found,
            len(self.acknowledged) - found,
            sum(times > 1 for times in recorded.values()),
        )


async def members(number: int) -> list[str]:
    """E-mail addresses of new members."""
    emails = [f"p{time.monotonic_ns()}@example.com" for _ in range(number)]
    for email in emails:
        await User.create_user(email, PASSWORD, is_approved=True)
    piccolo_conf.DB._spare.hang_up()  # else this process has a connection among the application's
    return emails


@asynccontextmanager
async def under_load(address: str, people: int = 4) -> AsyncIterator[Load]:
    """The application, used by several people at once until the block ends."""
    load = Load(address, await members(people))
    tasks = [asyncio.create_task(load.person(email)) for email in load.emails]
    try:
        await load.until_acknowledged(people * 5)
        yield load
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
