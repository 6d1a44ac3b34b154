"""Reading a long trail: the lists of the back office use indexes, and totals cost nothing."""

from __future__ import annotations

import itertools
import json
from collections.abc import AsyncIterator, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import httpx
import pytest

from audit import reading
from audit.digests import ROW, SealKeys
from audit.filters import Filters
from audit.history import HISTORY
from audit.paging import select
from audit.rows import SELECTED
from audit.seals import ROWS, seal
from audit.summary import count_sealed
from audit.tables import AuditLog
from home.accounts import own_history
from home.database.engine import Engine
from home.tables import User
from tests.conftest import Place, copy_of, in_database, point_at, sign_in

FILL = """
    INSERT INTO audit_logs (actor, action, resource, resource_id, is_admin_action, ip_address,
                            request_id, details, created_at)
    SELECT 'person' || n % 100,
           CASE WHEN n % 10000 = 7 THEN 'rare.update' ELSE 'users.' || n % 5 END,
           CASE WHEN n % 10000 = 7 THEN 'rare' ELSE 'users' END,
           CASE WHEN n % 4 = 1 THEN 1000 ELSE n % 1000 END, n % 50 = 0, '10.0.0.' || n % 250, n / 3,
           jsonb_build_object('after', jsonb_build_object('n', n)),
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


async def test_a_page_of_the_list_uses_an_index(long_trail: Engine) -> None:
    for condition, index in (
        (None, "idx_audit_logs_created_at"),
        (AuditLog.user_id == 7, "idx_audit_logs_user_id"),
        (AuditLog.action == "users.rare", "idx_audit_logs_action"),
        (AuditLog.action == "users.1", "idx_audit_logs_created_at"),
        (AuditLog.is_admin_action.eq(True), "idx_audit_logs_is_admin_action"),
        (AuditLog.is_admin_action.eq(False), "idx_audit_logs_created_at"),
    ):
        query = AuditLog.select().limit(15)
        query = query.order_by(AuditLog.created_at, ascending=False)
        query = query.order_by(AuditLog.id, ascending=False)
        if condition is not None:
            query = query.where(condition)
        sql, args = query.querystrings[0].compile_string()
        [[plan]] = await long_trail.fetch(f"EXPLAIN (FORMAT JSON) {sql}", *args)
        found = list(nodes(json.loads(plan)[0]["Plan"]))
        assert not [node for node in found if node["Node Type"] == "Seq Scan"], sql
        assert [node for node in found if node.get("Index Name", "").startswith(index)], sql


async def test_deleting_a_person_finds_what_they_did_by_an_index(long_trail: Engine) -> None:
    sql = "UPDATE ONLY audit_logs SET user_id = NULL WHERE $1 = user_id"  # as the foreign key does
    async with long_trail.connection() as connection, connection.transaction():
        await connection.execute("SET LOCAL plan_cache_mode = force_generic_plan")
        plan = await connection.fetchval(f"EXPLAIN (FORMAT JSON) {sql}", 7)
    found = [node.get("Index Name") for node in nodes(json.loads(plan)[0]["Plan"])]
    assert "idx_audit_logs_user_id_created_at" in found


MIDDLE = 60_000
DAYS = timedelta(days=30)
CHOICES = {
    "everything": Filters(),
    "a month": Filters(since=datetime.now(UTC) - DAYS, until=datetime.now(UTC)),
    "a person": Filters(user_id=7),
    "nobody": Filters(actor="nobody"),
    "an actor": Filters(actor="person7"),
    "an action": Filters(action="users.1"),
    "a rare action": Filters(action="rare.update"),
    "a table": Filters(resource="users"),
    "a rare table": Filters(resource="rare"),
    "a record": Filters(resource="users", resource_id="42"),
    "a busy record": Filters(resource="users", resource_id="1000"),
    "an address": Filters(ip_address="10.0.0.7"),
    "a request": Filters(request_id="7"),
    "a column": Filters(column="nothing"),
    "a column of a table": Filters(column="nothing", resource="users"),
    "an action of an actor in a month": Filters(
        actor="person7", action="users.1", since=datetime.now(UTC) - DAYS
    ),
    "all": Filters(
        since=datetime.now(UTC) - DAYS, until=datetime.now(UTC), actor="person7",
        action="users.1", resource="users", resource_id="42", user_id=7, ip_address="10.0.0.7",
        request_id="7", column="n",
    ),
}  # fmt: skip


@pytest.mark.parametrize("plans", ["force_custom_plan", "force_generic_plan"])
async def test_a_page_of_the_trail_reads_along_one_index_whatever_is_filtered(
    long_trail: Engine, plans: str
) -> None:
    async with long_trail.connection() as connection, connection.transaction():
        await connection.execute(f"SET LOCAL plan_cache_mode = {plans}")
        for (choice, filters), before in itertools.product(CHOICES.items(), (None, MIDDLE)):
            groups = reading.candidates(filters)
            asked = [reading.statement(filters, group, before, 50) for group in groups]
            for sql, values in (*asked, reading.counting(filters, groups)):
                explain = f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {sql}"
                plan = json.loads(await connection.fetchval(explain, *values))[0]["Plan"]
                _reads_along_one_index(plan, f"{choice}, before {before}: {sql}")


def _reads_along_one_index(plan: dict[str, Any], what: str) -> None:
    found = list(nodes(plan))
    assert not {"Seq Scan", "Incremental Sort"} & {node["Node Type"] for node in found}, what
    read = [node for node in found if node.get("Relation Name") == "audit_logs"]
    looks_ahead = reading.LOOK_AT + 1
    assert max((node["Actual Rows"] for node in read), default=0) <= looks_ahead, what
    passed = [node.get("Rows Removed by Filter", 0) for node in read]
    assert sum(passed) <= reading.LOOK_AT, what


async def test_a_page_looks_along_the_filter_with_the_fewest_rows(long_trail: Engine) -> None:
    both = Filters(action="rare.update", resource="users")
    assert await reading.fewest(long_trail, both) == ("action",)
    both = Filters(action="users.1", resource="rare")
    assert await reading.fewest(long_trail, both) == ("resource",)
    soon = Filters(action="users.1", since=datetime.now(UTC) - timedelta(minutes=5))
    assert await reading.fewest(long_trail, soon) in (("action",), ())
    found = await reading.page(long_trail, both)
    assert (len(found.rows), found.next) == (0, None)
    found = await reading.page(long_trail, Filters(resource="rare"))
    assert (len(found.rows), found.next) == (12, None)


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
        catalogs = {"pg_sequence", "pg_namespace", "pg_trigger", "pg_class"}  # short ones
        assert set(scanned) <= {"audit_seals", "audit_daily_counts", "users", *catalogs}, sql
        if "FROM audit_logs\n" in sql and "id >" in sql:  # what no seal covers yet, not two weeks
            assert "audit_logs_pkey" in [node.get("Index Name") for node in found]


async def test_sealing_reads_only_what_is_new(long_trail: Engine) -> None:
    sql = f"EXPLAIN (FORMAT JSON) {select(ROW, ROWS)}"
    [[plan]] = await long_trail.fetch(sql, 119_000, 120_000, 10_000)
    found = list(nodes(json.loads(plan)[0]["Plan"]))
    assert "audit_logs_pkey" in [node.get("Index Name") for node in found]
    assert "Sort" not in [node["Node Type"] for node in found]


async def test_totals_are_estimated_above_a_hundred_thousand(long_trail: Engine, url: str) -> None:
    connection = await asyncpg.connect(url)  # which waits for longer
    await connection.execute(FILL)  # the statistics know nothing of these yet
    await connection.close()
    narrow = "INSERT INTO audit_logs (action) SELECT 'x' FROM generate_series(1, 3000)"
    await long_trail.run_ddl(narrow)  # nor that some rows are smaller
    assert await AuditLog.count() != 243_000
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
