"""Trails to seal, and a superuser who tampers with them."""

from __future__ import annotations

from typing import Any

from audit.digests import SealKeys
from audit.seals import seal
from home.database.engine import Engine

KEY = "the key of these tests has 32 characters and more"
KEYS = SealKeys(KEY)
FILL = """
    INSERT INTO audit_logs (actor, action, resource, resource_id, details, ip_address, request_id,
                            created_at)
    SELECT 'person' || n || '@example.com', 'users.update', 'users', n,
           jsonb_build_object('before', jsonb_build_object('n', n - 1),
                              'after', jsonb_build_object('n', n)),
           '10.0.0.1', 'r' || n, now() - (1000000 - n) * interval '1 minute'
    FROM generate_series($1::int, $2::int) n
"""


async def fill(db: Engine, first: int, last: int) -> None:
    """Rows first..last, whose ids are the same numbers if nobody else has written."""
    await db.fetch(FILL, first, last)


async def skip_an_id(db: Engine) -> None:
    """As a transaction does that is rolled back."""
    await db.fetch("SELECT nextval('audit_logs_id_seq')")


async def seal_three_times(db: Engine, keys: SealKeys = KEYS) -> None:
    """Rows 1..10, 12..20 and 22..30, under a seal each."""
    for start in (1, 12, 22):
        await fill(db, start, start // 10 * 10 + 10)
        await skip_an_id(db)
        await seal(db, keys)


async def tamper(db: Engine, sql: str, *args: Any) -> None:
    """As a superuser can, whose changes no trigger sees."""
    connection = await db.get_new_connection()
    await connection.execute("SET session_replication_role = replica")
    if args:
        await connection.execute(sql, *args)
    else:
        await connection.execute(sql)
    await connection.close()
