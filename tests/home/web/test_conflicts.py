"""Changes that get in each other's way: 503 with Retry-After, never 500."""

from __future__ import annotations

import asyncpg
import httpx
import pytest

import piccolo_conf
from home.database.engine import Engine
from home.tables import User
from home.web.error_responses import answer_for
from tests.conftest import enter


@pytest.mark.parametrize("state", ["40001", "40P01", "55P03"])
async def test_what_the_database_refuses_for_now_may_be_tried_again(db: Engine, state: str) -> None:
    with pytest.raises(asyncpg.PostgresError) as caught:
        await db.execute(f"DO $$ BEGIN RAISE SQLSTATE '{state}'; END $$")
    answer = answer_for(caught.value, "/api/x", {})
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "1"
    assert b'"code":"conflicting_changes"' in bytes(answer.body)
    assert await db.fetchval("SELECT 1") == 1


@pytest.mark.direct
async def test_a_lock_that_is_not_given_in_time(
    client: httpx.AsyncClient, member: User, url: str
) -> None:
    await enter(client, member.email)
    assert (await client.put("/api/me/preferences", json={"n": 1})).status_code == 200
    other = await asyncpg.connect(url)
    name = await other.fetchval("SELECT current_database()")
    await other.execute(f"ALTER DATABASE {name} SET lock_timeout = '50ms'")
    piccolo_conf.DB.expire_connections()
    transaction = other.transaction()
    await transaction.start()
    await other.execute("SELECT FROM user_preferences FOR UPDATE")
    answer = await client.put("/api/me/preferences", json={"n": 2})
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert answer.json()["error"]["code"] == "conflicting_changes"
    await transaction.rollback()
    await other.close()
    assert (await client.put("/api/me/preferences", json={"n": 2})).status_code == 200
