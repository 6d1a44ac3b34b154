"""`/api/people`: lists for readers, decisions for administrators."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from home.tables import Session, User
from tests.conftest import PASSWORD, enter

pytestmark = pytest.mark.any_version


async def waiting(count: int) -> list[int]:
    made = [await User.store(f"w{n}@example.com", "", display_name="Wim") for n in range(count)]
    return [user.id for user in made]


async def decide(client: httpx.AsyncClient, action: str, *ids: Any) -> httpx.Response:
    return await client.post("/api/people/decisions", json={"action": action, "ids": ids})


@pytest.fixture
async def ada(client: httpx.AsyncClient, administrator: User) -> httpx.AsyncClient:
    await enter(client, administrator.email)
    return client


async def test_people_are_listed_page_by_page(ada: httpx.AsyncClient) -> None:
    ids = await waiting(120)
    seen, before = list[int](), None
    for size in (50, 50, 20):
        params = {"group": "waiting", "q": "wim"} | ({"before": before} if before else {})
        found = (await ada.get("/api/people", params=params)).json()
        assert len(found["people"]) == size
        seen += [each["id"] for each in found["people"]]
        before = found["next"]
    assert (seen, before) == (ids[::-1], None)
    [me] = (await ada.get("/api/people?group=administrators")).json()["people"]
    assert (me["email"], me["state"]) == ("ada@example.com", "active")
    assert "password_hash" not in me
    for wrong in ("group=nobody", "before=x", "before=-1", f"before={10**30}"):
        assert (await ada.get(f"/api/people?{wrong}")).status_code == 422


async def test_each_who_is_left_out_is_named(ada: httpx.AsyncClient, member: User) -> None:
    await Session.create_session(member.id)
    ids = await waiting(3)
    answer = (await decide(ada, "approve", *ids, ids[0], member.id, 4711)).json()
    assert sorted(answer["done"]) == ids
    assert answer["refused"] == [
        {
            "id": member.id, "email": "mel@example.com", "reason": "active",
            "message": "Is approved and active already.",
        },
        {
            "id": 4711, "email": None, "reason": "gone",
            "message": "There is no such account any more.",
        },
    ]  # fmt: skip
    answer = (await decide(ada, "reject", *ids)).json()  # they do not wait any more
    assert (answer["done"], len(answer["refused"])) == ([], 3)
    answer = (await decide(ada, "end_sessions", member.id)).json()
    assert (answer["done"], answer["sessions_ended"]) == ([member.id], 1)
    assert (await decide(ada, "disable", *ids)).json()["refused"] == []
    assert sorted((await decide(ada, "enable", *ids)).json()["done"]) == ids


@pytest.mark.parametrize(
    "body",
    [
        {}, [], {"action": "approve"}, {"action": "approve", "ids": []},
        {"action": "drop", "ids": [1]}, {"action": "approve", "ids": ["1"]},
        {"action": "approve", "ids": [0]}, {"action": "approve", "ids": [2**31]},
        {"action": "approve", "ids": list(range(1, 502))},
        {"action": "approve", "ids": [1], "more": 1},
    ],
)  # fmt: skip
async def test_bodies_are_bounded(ada: httpx.AsyncClient, body: Any) -> None:
    answer = await ada.post("/api/people/decisions", json=body)
    assert (answer.status_code, "message" in answer.json()["error"]) == (422, True)


async def test_auditors_list_and_decide_nothing(client: httpx.AsyncClient, member: User) -> None:
    await User.create_user("vera@example.com", PASSWORD, is_auditor=True, is_approved=True)
    await enter(client, "vera@example.com")
    assert len((await client.get("/api/people")).json()["people"]) == 2
    assert (await decide(client, "disable", member.id)).status_code == 403
    await enter(client, member.email)
    assert (await client.get("/api/people")).status_code == 403
    del client.headers["x-csrf-token"]
    assert (await decide(client, "disable", member.id)).status_code == 403


async def test_the_description_names_what_is_asked_for(client: httpx.AsyncClient) -> None:
    described = (await client.get("/api/openapi.json")).json()
    listed = described["paths"]["/api/people"]["get"]
    assert [each["name"] for each in listed["parameters"]] == ["group", "q", "before"]
    assert (
        described["components"]["schemas"]["PeopleDecision"]["properties"]["ids"]["maxItems"] == 500
    )
