"""A million rows archived, more files made of them, and pages read, as a program: one line of JSON.

python -m benchmarks.archiving FILES ROUNDS
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import asyncpg
import duckdb

from audit.archive.moving import archive_step
from audit.archive.reading import Archive
from audit.digests import SealKeys
from audit.filters import Filters
from audit.seals import seal
from audit.settings import AuditSettings
from benchmarks.sealing import FILL
from piccolo_conf import DB, SETTINGS

ROWS = 1_000_000
PEOPLE = 200  # of a file
FIRST = 1_000_000_000  # id; what is made beside it is older
MONTH = timedelta(days=30)
USERS = f"""
    SET session_replication_role = replica; SET statement_timeout = 0;
    INSERT INTO users (email, password_hash, is_approved)
    SELECT 'p' || n || '@example.com', '', true FROM generate_series(1, {PEOPLE}) n;
    SELECT setval('audit_logs_id_seq', {FIRST})
"""
WHOSE = f"UPDATE audit_logs SET user_id = 1 + id % {PEOPLE}"
# Each a month older than the one before, with people of its own, numbered among all others.
OTHER = """
    COPY (SELECT * REPLACE (id - {rows} AS id, created_at - INTERVAL {months} MONTH AS created_at,
                            user_id * {files} + {number} AS user_id, 'f{number}-' || actor AS actor)
          FROM read_parquet('{source}'))
    TO '{target}' (FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE 10000)
"""
CATALOG = """
    INSERT INTO audit_archives (name, bytes, first_seal, last_seal, first_id, last_id, row_count,
                                oldest_at, newest_at, created_at)
    SELECT $1, bytes, first_seal - $2, last_seal - $2, first_id - $3, last_id - $3, row_count,
           oldest_at - $4 * interval '1 month', newest_at - $4 * interval '1 month', created_at
    FROM audit_archives WHERE name = $5
"""
SIZE = "SELECT pg_total_relation_size('audit_logs')"
PLAIN = """
    SELECT id, created_at, actor, action, resource, resource_id, details, ip_address
    FROM read_parquet(?) WHERE user_id = ? ORDER BY created_at DESC, id DESC LIMIT 50
"""


async def _fill(connection: asyncpg.Connection) -> int:
    """Make the rows of one file; return how many bytes the table has."""
    for part in USERS.split(";"):
        await connection.execute(part)
    await connection.execute(FILL.replace("$1", str(ROWS)), timeout=600)
    await connection.execute(WHOSE, timeout=600)
    await connection.execute("VACUUM FULL audit_logs", timeout=600)
    return await connection.fetchval(SIZE)


async def _make_others(
    connection: asyncpg.Connection, name: str, file: Path, files: int
) -> list[str]:
    """Make more files of the first one; return the paths of all."""
    paths = [str(file)]
    for number in range(1, files):
        other = f"{number:03d}-{name}"
        target = file.with_name(other)
        duckdb.execute(
            OTHER.format(
                rows=number * ROWS, months=number, files=files, number=number,
                source=file, target=target,
            )
        )  # fmt: skip
        await connection.execute(CATALOG, other, number * 1000, number * ROWS, number, name)
        paths.append(str(target))
    return paths


async def measure(files: int, rounds: int) -> dict[str, object]:
    assert isinstance(SETTINGS, AuditSettings)
    assert SETTINGS.audit_archive
    assert SETTINGS.audit_seal_key
    keys = SealKeys(SETTINGS.audit_seal_key.get_secret_value())
    connection = await DB.get_new_connection()
    size = await _fill(connection)
    assert (await seal(DB, keys)).rows == ROWS
    archive = Archive(DB, SETTINGS.audit_archive)
    began = time.perf_counter()
    moved = await archive_step(archive, keys, datetime.now(UTC) + MONTH)
    took = time.perf_counter() - began
    assert moved is not None
    assert moved.rows == ROWS
    [row] = await connection.fetch("SELECT name FROM audit_archives")
    name = row["name"]
    file = Path(archive.store.path(name))
    paths = await _make_others(connection, name, file, files)
    await connection.close()
    person = 7 * files + files * 2 // 3
    seconds: dict[str, list[float]] = {"archive": [took], "plain": [], "person": [], "newest": []}
    for number in range(rounds + 1):
        for name, filters in (("person", Filters(user_id=person)), ("newest", Filters())):
            began = time.perf_counter()
            page = await archive.page(filters, None, 50, DB)
            if number:
                seconds[name].append(time.perf_counter() - began)
            assert len(page.rows) == 50
        began = time.perf_counter()
        # A connection of its own, as who asks by hand would have.
        plain = duckdb.connect().execute(PLAIN, [paths, person]).fetchall()
        if number:
            seconds["plain"].append(time.perf_counter() - began)
        assert len(plain) == 50
    return {**seconds, "size": {"file": file.stat().st_size, "table": size}}


if __name__ == "__main__":
    print(json.dumps(asyncio.run(measure(int(sys.argv[1]), int(sys.argv[2])))))
