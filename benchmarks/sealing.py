"""A long trail sealed, verified, and only read, as a program: one line of JSON, in seconds.

python -m benchmarks.sealing ROWS ROUNDS
"""

from __future__ import annotations

import asyncio
import json
import sys
import time

from audit.digests import ROW, SealKeys
from audit.paging import trail_pages, transaction
from audit.seals import seal
from audit.verify import ROWS, verify
from piccolo_conf import DB

KEYS = SealKeys("the key of this benchmark has more than 32 letters")
FILL = """
    INSERT INTO audit_logs (actor, action, resource, resource_id, details, ip_address, request_id,
                            created_at)
    SELECT 'person' || n % 200 || '@example.com', 'users.update', 'users', n % 5000,
           jsonb_build_object('before', jsonb_build_object('display_name', 'x' || n),
                              'after', jsonb_build_object('display_name', 'y' || n)),
           '10.0.0.' || n % 250, md5((n / 3)::text), now() - ($1 - n) * interval '1 second'
    FROM generate_series(1, $1::int) n
"""
UNSEALED = """
    SET session_replication_role = replica; TRUNCATE audit_seals;
    SELECT setval('audit_seals_id_seq', 1, false); SET session_replication_role = origin
"""


async def measure(rows: int, rounds: int) -> dict[str, list[float]]:
    await _alone(f"SET statement_timeout = 0; {FILL.replace('$1', str(rows))}")
    await _alone("VACUUM ANALYZE audit_logs")
    seconds: dict[str, list[float]] = {}
    for number in range(rounds + 1):  # the first, unmeasured, fills the caches
        await _alone(UNSEALED)
        for name, work in (("seal", _seal), ("verify", _verify), ("read", _read)):
            began, worked = time.perf_counter(), time.process_time()
            assert await work() == rows
            if number:
                seconds.setdefault(name, []).append(time.perf_counter() - began)
                cpu = time.process_time() - worked
                seconds.setdefault(f"{name}, processor", []).append(cpu)
    return seconds


async def _seal() -> int:
    return (await seal(DB, KEYS)).rows


async def _verify() -> int:
    found = await verify(DB, KEYS)
    assert found.problem is None
    return found.verified


async def _read() -> int:
    """The floor: the same rows through the same cursor, and nothing done with them."""
    rows = 0
    async with transaction(DB, "repeatable_read", readonly=True) as connection:
        async for page in trail_pages(connection, ROW, ROWS, 0, 2**62):
            rows += len(page)
    return rows


async def _alone(sql: str) -> None:
    connection = await DB.get_new_connection()
    for part in sql.split(";"):
        await connection.execute(part, timeout=600)
    await connection.close()


if __name__ == "__main__":
    print(json.dumps(asyncio.run(measure(int(sys.argv[1]), int(sys.argv[2])))))
