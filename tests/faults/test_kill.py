"""R7: the application is killed in the middle of writes; nothing acknowledged is lost or twice."""

from __future__ import annotations

import asyncio
import json
import random

import asyncpg
import httpx
import pytest

from home.tables import User
from tests.conftest import sign_in
from tests.faults.load import under_load
from tests.live import Live, running
from tests.postgres import Server, free_port

pytestmark = pytest.mark.any_version

KILLS = 3


async def write_until_it_dies(
    client: httpx.AsyncClient, user_id: int, names: list[str], acknowledged: set[str]
) -> None:
    """Rename a person again and again; what was answered with 200 counts as done."""
    while True:
        name = f"name {user_id}.{len(names)}"
        names.append(name)
        try:
            answer = await client.patch(
                f"/admin/api/tables/users/{user_id}/", json={"display_name": name}
            )
        except httpx.TransportError:
            return
        assert answer.status_code == 200, answer.text
        acknowledged.add(name)


async def test_a_record_if_and_only_if_its_change(url: str, administrator: User) -> None:
    people = [await User.create_user(f"p{n}@example.com", "a long password") for n in range(4)]
    names: dict[int, list[str]] = {person.id: [] for person in people}
    acknowledged: set[str] = set()
    cookies = httpx.Cookies()
    for _ in range(KILLS):
        with running(url) as live:
            async with httpx.AsyncClient(base_url=live.address, cookies=cookies) as client:
                if not cookies:  # a session survives, as long as the database does
                    await sign_in(client, "ada@example.com")
                    cookies.update(client.cookies)
                await client.get("/admin/public/meta/")  # which is built for the first who asks
                client.headers["X-CSRFToken"] = cookies["csrftoken"]
                writers = [
                    asyncio.create_task(write_until_it_dies(client, person.id, done, acknowledged))
                    for person in people
                    for done in [names[person.id]]
                ]
                goal = len(acknowledged) + len(people)
                async with asyncio.timeout(20):
                    while len(acknowledged) < goal:
                        await asyncio.sleep(0.01)
                await asyncio.sleep(random.uniform(0, 0.2))
                live.kill()
                await asyncio.gather(*writers)
    database = await asyncpg.connect(url)
    for person in people:
        name = await database.fetchval("SELECT display_name FROM users WHERE id = $1", person.id)
        records = await database.fetch(
            "SELECT details FROM audit_logs WHERE action = 'users.update' AND resource_id = $1"
            " ORDER BY id",
            str(person.id),
        )
        before = [json.loads(row["details"])["before"]["display_name"] for row in records]
        after = [json.loads(row["details"])["after"]["display_name"] for row in records]
        assert before == [None, *after][: len(after)], (
            "each record begins where the one before it ended"
        )
        assert [None, *after][-1] == name
        assert len(set(after)) == len(after)
        assert set(names[person.id]) & acknowledged <= set(after)
    await database.close()
    assert len(acknowledged) > KILLS


@pytest.mark.long
@pytest.mark.direct
async def test_two_hundred_times(server: Server) -> None:
    port = str(free_port())
    live = Live(server.url(), LISTEN_PORT=port)
    await asyncio.to_thread(live.wait_until_it_serves)
    try:
        async with under_load(live.address) as load:
            for _ in range(200):
                await asyncio.sleep(random.uniform(0, 0.2))
                await asyncio.to_thread(live.kill)
                live = Live(server.url(), LISTEN_PORT=port)
                await load.until_acknowledged(1)
        count = await load.count(server.url())
    finally:
        await asyncio.to_thread(live.end)
    print(f"R7: 200 kills, {load.unanswered} requests cut off, {count}")
    assert load.wrong == []
    assert (count.lost, count.duplicated) == (0, 0)
