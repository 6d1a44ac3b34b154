"""Steps of migrations that block nobody: each outside of a transaction, and again after a kill.

`CREATE INDEX CONCURRENTLY` that is killed or fails leaves an index that is not valid, which no
query uses and every write pays for. The next run takes it away and builds it anew.
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass

import asyncpg

from audit.database import Connection
from audit.errors import GroundworkError

NAME = r'("[^"]+"|\w+)'
TABLE = r'((?:(?:"[^"]+"|\w+)\.)?(?:"[^"]+"|\w+))'
CONCURRENTLY = re.compile(r"\bCONCURRENTLY\b\s*", re.IGNORECASE)
CREATE = re.compile(rf"CREATE (?:UNIQUE )?INDEX CONCURRENTLY {NAME} ON {TABLE}[ (]", re.IGNORECASE)
DROP = re.compile(rf"DROP INDEX CONCURRENTLY IF EXISTS {TABLE}", re.IGNORECASE)
VALIDATE = re.compile(rf"ALTER TABLE {TABLE} VALIDATE CONSTRAINT {NAME}", re.IGNORECASE)
# Of an index by its table and name: whether it is valid, and its name in SQL.
INDEX = """
    SELECT indisvalid AS is_valid, format('%I.%I', nspname, relname) AS name
    FROM pg_index
    JOIN pg_class ON pg_class.oid = indexrelid
    JOIN pg_namespace ON pg_namespace.oid = relnamespace
    WHERE indrelid = to_regclass($1) AND relname = (parse_ident($2))[1]
"""
IS_BEING_BUILT = """
    SELECT EXISTS (SELECT FROM pg_stat_progress_create_index WHERE relid = to_regclass($1))
"""
LOOK_SECONDS = 0.2


class NotConcurrent(GroundworkError):
    """A step of `add_concurrent` is none that can run beside reads and writes."""


@dataclass(frozen=True)
class ConcurrentStep:
    """One statement, and what it is about.

    Args:
        sql: CREATE INDEX CONCURRENTLY with a name, DROP INDEX CONCURRENTLY IF EXISTS, or ALTER
            TABLE ... VALIDATE CONSTRAINT.

    Raises:
        NotConcurrent: it is something else.
    """

    sql: str

    def __post_init__(self) -> None:
        text = " ".join(self.sql.split()).rstrip("; ")
        if ";" in text or not any(form.match(text) for form in (CREATE, DROP, VALIDATE)):
            raise NotConcurrent(
                "add_concurrent takes CREATE INDEX CONCURRENTLY name ON ..., DROP INDEX "
                "CONCURRENTLY IF EXISTS ... or ALTER TABLE ... VALIDATE CONSTRAINT ..., "
                f"one statement each; this is: {text[:80]}"
            )
        object.__setattr__(self, "sql", text)

    @property
    def index(self) -> tuple[str, str] | None:
        """Return the table and the name of the index that it makes, or None."""
        found = CREATE.match(self.sql)
        return (found[2], found[1]) if found else None

    @property
    def in_a_transaction(self) -> str:
        """Return what has the same result, for tables that nobody else uses yet."""
        return CONCURRENTLY.sub("", self.sql, count=1)

    @property
    def backwards(self) -> str | None:
        """Return what takes it back, or None."""
        return f"DROP INDEX IF EXISTS {self.index[1]}" if self.index else None

    async def run(self, connection: Connection) -> None:
        """Run it on a connection without time limits; what was done already is done."""
        if self.index is None:  # validating what is valid, and dropping what is gone, is nothing
            await connection.execute(self.sql)
        elif not await self._is_there(connection):
            try:
                await connection.execute(self.sql)
            except asyncpg.PostgresError:
                await self._is_there(connection)  # an invalid one would refuse rows all the same
                raise

    async def _is_there(self, connection: Connection) -> bool:
        """Return whether the index is there and valid; drop what a killed run left."""
        assert self.index is not None
        while True:
            found = await connection.fetchrow(INDEX, *self.index)
            if found is None or found["is_valid"]:
                return found is not None
            # The server may go on for whoever was killed, and finish.
            if not await connection.fetchval(IS_BEING_BUILT, self.index[0]):
                break
            await asyncio.sleep(LOOK_SECONDS)
        found = await connection.fetchrow(INDEX, *self.index)
        if found is not None and not found["is_valid"]:
            await connection.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {found['name']}")
            return False
        return found is not None
