"""Other programs read the files: the same question, the same rows."""

from __future__ import annotations

import json
from typing import Any

import chdb
import duckdb
import pytest

from audit.archive.reading import Archive
from home.database.engine import Engine
from tests.audit.archive.trails import moved, nasty
from tests.audit.trails import fill

pytestmark = pytest.mark.any_version
query_clickhouse: Any = chdb.query


async def test_clickhouse_and_duckdb_find_the_same(db: Engine, archive: Archive) -> None:
    await nasty(db)
    await fill(db, 1, 200)
    await moved(archive)
    files = f"{archive.store.root}/*.parquet"
    columns = "id, actor, action, resource, resource_id, details, ip_address, request_id"
    for condition in (
        "actor = 'person7@example.com'",
        "action = 'users.update' AND resource_id IN ('3', '150')",
        "actor IS NULL OR actor = ''",
        "is_admin_action AND created_at < '2020-01-01 05:00:00'",
        "id > 0",
    ):
        query = f"SELECT {columns} FROM {{}} WHERE {condition} ORDER BY id"
        by_duckdb = duckdb.execute(query.format(f"'{files}'")).fetchall()
        answer = query_clickhouse(query.format(f"file('{files}', Parquet)"), "JSONCompactEachRow")
        lines = str(answer).split("\n")[:-1]
        by_clickhouse = [(int(row[0]), *row[1:]) for row in map(json.loads, lines)]
        assert by_clickhouse == by_duckdb
        assert by_duckdb


async def test_a_file_says_what_it_is(db: Engine, archive: Archive) -> None:
    await fill(db, 1, 20)
    await moved(archive)
    [name] = archive.store.names()
    found = duckdb.execute(
        "SELECT decode(value) FROM parquet_kv_metadata(?) WHERE decode(key) = 'groundwork'",
        [archive.store.path(name)],
    ).fetchall()
    [digest] = [row["digest"] for row in await db.fetch("SELECT digest, key_id FROM audit_seals")]
    [key] = [row["key_id"] for row in await db.fetch("SELECT key_id FROM audit_seals")]
    assert found == [(f"format 2 seals 1-1 digest {digest} key {key}",)]
