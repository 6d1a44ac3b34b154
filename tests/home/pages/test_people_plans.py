"""A hundred thousand people: every list and every search reads a small part of them."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Sequence
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import httpx
import pytest

from home.accounts import people
from home.accounts.decisions import DECISIONS, decide
from home.accounts.people import ALL, GROUPS, WAITING, Filter
from home.database.engine import Engine
from home.tables import User
from sync_history.directory.groups import LEFT
from tests.audit.test_plans import nodes
from tests.conftest import Place, copy_of, enter, in_database, point_at

PEOPLE = 100_000
# Of the older ones every 120th waits; every tenth was rejected, every 1,000th administers.
FILL = f"""
    INSERT INTO users (email, password_hash, display_name, is_approved, is_disabled, is_admin)
    SELECT 'p' || n || '@example.com', '', 'Name' || n % 5000 || ' Family' || n % 300,
           (n % 120 <> 0 OR n > 60000) AND n % 10 <> 1, n % 10 = 1, n % 1000 = 7
    FROM generate_series(1, {PEOPLE}) n
"""
FEW_DISABLED = """
    UPDATE users SET is_disabled = false, is_approved = true WHERE is_disabled AND id > 100
"""
# The directory lists half of them, and one in a hundred of these has left.
LISTED = """
    INSERT INTO directory_people (user_id, left_at)
    SELECT id, CASE WHEN id % 200 = 0 THEN now() END FROM users WHERE id % 2 = 0
"""
# Blocks of 8 KiB. The table has some 1,900; a page of 51 rows is in as many, and in the index's.
FEW = 250
FEW_IN_SEARCH = 2_000  # where words are common, their index leads to many rows
SEARCHES = ["", "p77777", "name42 family12", "n", "example", "nobody"]


@pytest.fixture(scope="module")
async def crowded(
    place: Place, template: str, maintenance: asyncpg.Connection
) -> AsyncIterator[str]:
    """A database with many people, made once."""
    async with copy_of(template, place, maintenance) as url:
        name = urlsplit(url).path[1:]
        connection = await asyncpg.connect(in_database(place.direct, name))
        await connection.execute("SET session_replication_role = replica")
        await connection.execute(FILL)
        await connection.execute(LISTED)
        await connection.execute("VACUUM ANALYZE")
        await connection.close()
        yield name


@pytest.fixture
async def url(crowded: str, place: Place, maintenance: asyncpg.Connection) -> AsyncIterator[str]:
    async with copy_of(crowded, place, maintenance) as url:
        point_at(url)
        yield url


async def plan_of(db: Engine, sql: str, args: Sequence[Any]) -> tuple[dict[str, Any], int]:
    """The plan that was followed, and how many blocks it read."""
    [[plan]] = await db.fetch(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {sql}", *args)
    top: dict[str, Any] = json.loads(plan)[0]["Plan"]
    return top, top["Shared Hit Blocks"] + top["Shared Read Blocks"]


@pytest.mark.any_version
@pytest.mark.parametrize("search", SEARCHES)
@pytest.mark.parametrize("group", [*GROUPS, LEFT, ALL], ids=lambda group: group.name)
async def test_a_page_reads_few_blocks(db: Engine, group: people.Group, search: str) -> None:
    for before in (people.LAST_ID, 50_000, 60):
        sql, args = people.page_sql(Filter(group, search), before, 51)
        top, blocks = await plan_of(db, sql, args)
        assert "Seq Scan" not in [node["Node Type"] for node in nodes(top)], sql
        assert blocks < (FEW_IN_SEARCH if search else FEW), (before, blocks, json.dumps(top)[:2000])


async def test_the_few_who_are_disabled_are_found_by_their_index(db: Engine, url: str) -> None:
    connection = await asyncpg.connect(url)
    await connection.execute("SET session_replication_role = replica")
    await connection.execute(FEW_DISABLED)
    await connection.execute("VACUUM ANALYZE users")
    await connection.close()
    disabled = next(group for group in GROUPS if group.name == "disabled")
    sql, args = people.page_sql(Filter(disabled), people.LAST_ID, 51)
    _, blocks = await plan_of(db, sql, args)
    assert blocks < FEW


@pytest.mark.any_version
async def test_counting_stops(db: Engine, client: httpx.AsyncClient) -> None:
    rights = {"is_admin": True, "is_superuser": True, "is_approved": True}
    await User.create_user("ada@example.com", "correct horse battery", **rights)
    await enter(client, "ada@example.com")
    page = (await client.get("/people")).text
    found = dict(re.findall(r'group=(\w+)"[^>]*>[\w ]+<small>([\d,+]+)</small>', page))
    assert (found["waiting"], found["active"], found["all"]) == ("500", "10,000+", "10,000+")
    assert await people.counts(db, [ALL]) == [10_001]
    page = (await client.get("/people?group=all&q=name")).text
    assert "500+ found" in page


@pytest.mark.any_version
async def test_all_that_match_are_decided_about_in_one_statement(db: Engine) -> None:
    rights = {"is_admin": True, "is_superuser": True, "is_approved": True}
    ada = await User.create_user("ada@example.com", "correct horse battery", **rights)
    outcome = await decide(db, ada.id, DECISIONS["approve"], Filter(WAITING), Filter(WAITING))
    assert (outcome.done, outcome.refused, len(outcome.people)) == (500, 0, 100)
    assert not await User.exists().where(User.is_approved.eq(False), User.is_disabled.eq(False))
