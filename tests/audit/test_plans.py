"""Reading a long trail: the lists of the back office use indexes, and totals cost nothing."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import httpx
import pytest

from audit.digests import SealKeys
from audit.history import HISTORY
from audit.paging import select
from audit.rows import SELECTED
from audit.seals import ROW, ROWS, seal
from audit.summary import count_sealed
from audit.tables import AuditLog
from home.accounts import own_history
from home.database.engine import Engine
from home.tables import User
from tests.conftest import Place, copy_of, in_database, point_at, sign_in

FILL = """
    INSERT INTO audit_logs (actor, action, resource, resource_id, is_admin_action, created_at)
    SELECT 'person' || n % 100, 'users.' || n % 5, 'users', n % 1000, n % 50 = 0,
           now() - (120000 - n) * interval '1 minute'
    FROM generate_series(1, 120000) n
"""


MORE = """
    INSERT INTO users (email, password_hash)
    SELECT 'p' || n || '@example.com', '' FROM generate_series(1, 20000) n;
    INSERT INTO sessions (sid, user_id, sess, expire)
    SELECT 's' || id, id, '{}', now() + (id % 40 - 20) * interval '1 day' FROM users;
    INSERT INTO sync_history
        (source, status, started_at, completed_at, duration_ms, needs_attention)
    SELECT 'source' || n % 5, 'succeeded', at, at, n % 1000, n % 100 = 0
    FROM (SELECT n, now() - n * interval '1 hour' AS at FROM generate_series(1, 20000) n) AS runs
"""


@pytest.fixture(scope="module")
async def long_template(
    place: Place, template: str, maintenance: asyncpg.Connection
) -> AsyncIterator[str]:
    """A database with much in it, made once."""
    async with copy_of(template, place, maintenance) as url:
        name = urlsplit(url).path[1:]
        connection = await asyncpg.connect(in_database(place.direct, name))
        await connection.execute("SET session_replication_role = replica")  # no records of these
        await connection.execute(FILL)
        await connection.execute(MORE)
        await connection.execute("VACUUM ANALYZE")
        await connection.close()
        yield name


@pytest.fixture
async def url(
    long_template: str, place: Place, maintenance: asyncpg.Connection
) -> AsyncIterator[str]:
    async with copy_of(long_template, place, maintenance) as url:
        point_at(url)
        yield url


@pytest.fixture
def long_trail(db: Engine) -> Engine:
    return db


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for inner in plan.get("Plans", ()):
        yield from nodes(inner)


@pytest.mark.parametrize(
    ("condition", "index"),
    [
        (None, "idx_audit_logs_created_at"),
        (AuditLog.user_id == 7, "idx_audit_logs_user_id"),
        (AuditLog.action == "users.rare", "idx_audit_logs_action"),
        (AuditLog.action == "users.1", "idx_audit_logs_created_at"),
        (AuditLog.is_admin_action.eq(True), "idx_audit_logs_"),
    ],
)
async def test_a_page_of_the_list_uses_an_index(
    long_trail: Engine, condition: Any, index: str
) -> None:
    query = AuditLog.select().limit(15)
    query = query.order_by(AuditLog.created_at, ascending=False)
    query = query.order_by(AuditLog.id, ascending=False)
    if condition is not None:
        query = query.where(condition)
    sql, args = query.querystrings[0].compile_string()
    [[plan]] = await long_trail.fetch(f"EXPLAIN (FORMAT JSON) {sql}", *args)
    found = list(nodes(json.loads(plan)[0]["Plan"]))
    assert not [node for node in found if node["Node Type"] == "Seq Scan"]
    assert [node for node in found if node.get("Index Name", "").startswith(index)]


async def test_the_history_of_a_record_uses_its_index(long_trail: Engine) -> None:
    sql = select(SELECTED, HISTORY)
    [[plan]] = await long_trail.fetch(f"EXPLAIN (FORMAT JSON) {sql}", "users", "42")
    found = [node.get("Index Name") for node in nodes(json.loads(plan)[0]["Plan"])]
    assert "idx_audit_logs_resource_resource_id" in found


@pytest.mark.parametrize("person", [7, 19_999])
async def test_what_happened_to_an_account_is_found_by_an_index(
    long_trail: Engine, person: int
) -> None:
    email = f"p{person}@example.com"
    rows = await own_history.newest(long_trail, person, email)
    assert len(rows) == (20 if person == 7 else 0)
    sql = f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {own_history.NEWEST_ROWS}"
    [[plan]] = await long_trail.fetch(sql, person, email)
    top = json.loads(plan)[0]["Plan"]
    assert "Seq Scan" not in [
        node["Node Type"] for node in nodes(top) if node.get("Relation Name") == "audit_logs"
    ]
    assert top["Shared Hit Blocks"] + top["Shared Read Blocks"] < 500  # of some 2,000


async def test_the_overview_reads_no_long_table_from_end_to_end(
    long_trail: Engine, client: httpx.AsyncClient, administrator: User, monkeypatch: Any
) -> None:
    await seal(long_trail, SealKeys(None))
    await count_sealed(long_trail)
    await sign_in(client, administrator.email)
    asked: list[tuple[Any, ...]] = []
    run = Engine._run

    async def remember(self: Engine, how: str, sql: str, args: Sequence[Any] = ()) -> Any:
        asked.append((sql, *args))
        return await run(self, how, sql, args)

    monkeypatch.setattr(Engine, "_run", remember)
    assert "awaiting approval" in (await client.get("/")).text
    monkeypatch.undo()
    assert len(asked) > 7
    for sql, *args in asked:
        [[plan]] = await long_trail.fetch(f"EXPLAIN (FORMAT JSON) {sql}", *args)
        found = list(nodes(json.loads(plan)[0]["Plan"]))
        scanned = [node["Relation Name"] for node in found if node["Node Type"] == "Seq Scan"]
        catalogs = {"pg_sequence", "pg_namespace"}  # a line for each sequence and schema
        assert set(scanned) <= {"audit_seals", "audit_daily_counts", "users", *catalogs}, sql
        if "FROM audit_logs\n" in sql and "id >" in sql:  # what no seal covers yet, not two weeks
            assert "audit_logs_pkey" in [node.get("Index Name") for node in found]


async def test_sealing_reads_only_what_is_new(long_trail: Engine) -> None:
    sql = f"EXPLAIN (FORMAT JSON) {select(ROW, ROWS)}"
    [[plan]] = await long_trail.fetch(sql, 119_000, 120_000, 10_000)
    found = list(nodes(json.loads(plan)[0]["Plan"]))
    assert "audit_logs_pkey" in [node.get("Index Name") for node in found]
    assert "Sort" not in [node["Node Type"] for node in found]


async def test_totals_are_estimated_above_a_hundred_thousand(long_trail: Engine) -> None:
    await long_trail.run_ddl(FILL)  # the statistics know nothing of these yet
    assert await AuditLog.count() != 240_000
    assert 200_000 < await AuditLog.count() < 280_000
    assert await AuditLog.count().where(AuditLog.resource_id == "42") == 240


async def test_the_admin_lists_the_newest_first_and_cannot_write(
    client: httpx.AsyncClient, administrator: User, long_trail: Engine
) -> None:
    await sign_in(client, "ada@example.com")
    path = "/admin/api/tables/audit_logs/"
    rows = (await client.get(path, params={"__order": "-created_at,-id"})).json()["rows"]
    assert rows[0]["action"] == "sign_in.succeeded"
    count = (await client.get(f"{path}count/")).json()["count"]
    assert 110_000 < count < 130_000
    for method, url in (
        ("POST", path),
        ("PUT", f"{path}1/"),
        ("PATCH", f"{path}1/"),
        ("DELETE", f"{path}1/"),
        ("DELETE", f"{path}?__delete_everything=true&id=1"),
    ):
        answer = await client.request(method, url, json={"action": "forged"})
        assert answer.status_code in (403, 405), (method, url, answer.text)
