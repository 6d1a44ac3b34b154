"""How many rows? Exactly where that is quick, else as PostgreSQL's planner estimates it."""

from __future__ import annotations

import json
from typing import cast

import asyncpg
from piccolo.query.methods.count import Count

from audit.database import Database

EXACT_UP_TO = 100_000  # rows
PATIENCE_MS = 500


class EstimatedCount(Count):
    """The total below a list: counting ten million rows would take longer than showing a page.

    An estimate is within a few per cent of the truth once autovacuum has seen the table.
    """

    async def run(self, node: str | None = None, in_pool: bool = True) -> int:
        db = cast(Database, self.table._meta.db)
        rows = self.table.select(self.table._meta.primary_key)
        rows.where_delegate._where = self.where_delegate._where
        sql, args = rows.querystrings[0].compile_string()
        plan = await db.fetchval(f"EXPLAIN (FORMAT JSON) {sql}", *args)
        estimate: int = json.loads(plan)[0]["Plan"]["Plan Rows"]
        if estimate > EXACT_UP_TO:
            return estimate
        try:
            async with db.transaction():
                await db.execute(f"SET LOCAL statement_timeout = {PATIENCE_MS}")
                count = f"SELECT count(*) FROM ({sql}) AS rows"  # noqa: S608  Piccolo's own SQL
                return cast(int, await db.fetchval(count, *args))
        except asyncpg.QueryCanceledError:
            return estimate
