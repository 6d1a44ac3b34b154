"""Which locks each statement of a migration takes, whom they block, and an end to it in time."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import asyncpg

from audit.errors import GroundworkError
from home.database.connection import ObservedConnection

# All that others may use, as it was before; the name as in SQL.
RELATIONS = """
    SELECT c.oid, c.oid::regclass::text AS name, relfilenode AS file,
           pg_relation_size(c.oid) AS bytes
    FROM pg_class AS c JOIN pg_namespace ON pg_namespace.oid = relnamespace
    WHERE relkind IN ('r', 'p', 'm', 'v') AND nspname <> 'information_schema'
      AND nspname NOT LIKE 'pg\\_%' AND relname <> 'migration'
"""
LOCKS = """
    SELECT relation AS oid, mode FROM pg_locks
    WHERE pid = $1 AND granted AND locktype = 'relation' AND relation = ANY($2)
"""
# UPDATE and DELETE lock rows, which are in no view: this is what the transaction did so far.
ROWS = """
    SELECT relid AS oid, 'RowLock' AS mode FROM pg_stat_xact_user_tables
    WHERE relid = ANY($1) AND n_tup_upd + n_tup_del > 0
"""
FILES = "SELECT oid, relfilenode AS file FROM pg_class WHERE oid = ANY($1)"
# A column that is known to have no NULL is not read for it.
SET_NOT_NULL = re.compile(
    r'\s*ALTER TABLE (?:ONLY )?([\w."]+) ALTER (?:COLUMN )?("[^"]+"|\w+) SET NOT NULL\s*$',
    re.IGNORECASE,
)
CHECKED = """
    SELECT EXISTS (SELECT FROM pg_constraint
                   WHERE conrelid = to_regclass($1) AND contype = 'c' AND convalidated
                     AND pg_get_constraintdef(oid)
                         = format('CHECK ((%I IS NOT NULL))', (parse_ident($2))[1]))
"""
BLOCKS = {
    "AccessExclusiveLock": "readers and writers",
    "ExclusiveLock": "writers",
    "ShareRowExclusiveLock": "writers",
    "ShareLock": "writers",
    "RowLock": "writers of the rows that it changed",
}
# What marks a place in a transaction, and goes back to it, also after an error.
SAVEPOINT = re.compile(r"(SAVEPOINT|RELEASE|ROLLBACK\s+TO)\b", re.IGNORECASE)
# The transaction is ours: what ends it would keep what is only tried.
CONTROL = re.compile(
    r"(BEGIN|START\s+TRANSACTION|COMMIT|END|ROLLBACK|ABORT|PREPARE\s+TRANSACTION)\b", re.IGNORECASE
)
ATOMIC = re.compile(r"\bBEGIN\s+ATOMIC\b", re.IGNORECASE)
ENDS = re.compile(r"\b(COMMIT|ROLLBACK|ABORT)\b", re.IGNORECASE)
# Piccolo's records, which are not of the migration: left out where they do what is expected.
RECORDS = re.compile(r'(INSERT INTO|SELECT) .*"migration"', re.IGNORECASE | re.DOTALL)
# What a statement in a script goes on through: comments, quotes, dollar quotes; and its end.
TOKENS = re.compile(
    r"--[^\n]*|/\*.*?\*/|\bE'(?:\\.|''|[^'])*'|'(?:''|[^'])*'|\"(?:\"\"|[^\"])*\""
    r"|(\$\w*\$).*?\1|(;)",
    re.DOTALL | re.IGNORECASE,
)

COMMENTS = re.compile(r"--[^\n]*|/\*.*?\*/", re.DOTALL)

Run = Callable[..., Awaitable[Any]]


class Stopped(BaseException):
    """A migration would hold others up for too long; none that catches its errors catches this."""


class EndsTransaction(GroundworkError):
    """A migration begins or ends a transaction itself; the message names the statement."""


@dataclass
class Lock:
    """A lock that a statement was the first to take; held until the end of the transaction."""

    table: str
    mode: str
    bytes: int  # of the table, before
    since: float
    held_ms: int | None = None  # not let go of yet

    @property
    def blocks(self) -> str:
        """Return whom it blocks; empty is nobody who reads or writes rows."""
        return BLOCKS.get(self.mode, "")


@dataclass
class Step:
    """A statement of a migration, and what came of it."""

    migration: str
    sql: str
    ms: int = 0
    locks: list[Lock] = field(default_factory=list)
    rewrites: list[str] = field(default_factory=list)
    lint: list[str] = field(default_factory=list)
    is_stopped: bool = False
    is_checked: bool = False  # a valid constraint says what SET NOT NULL says


def statements(script: str) -> list[str]:
    """Return the statements of a script, without their semicolons.

    Bodies in `BEGIN ATOMIC ... END` hold semicolons: such a script stays whole.
    """
    if ATOMIC.search(script):
        return [script]
    ends = [found.start() for found in TOKENS.finditer(script) if found[2]]
    starts = [0, *(end + 1 for end in ends)]
    parts = [script[a:b].strip() for a, b in zip(starts, [*ends, len(script)], strict=True)]
    return [part for part in parts if COMMENTS.sub("", part).strip()]


class LockWatch:
    """Runs the statements of a transaction, and looks after each at the locks that it holds.

    Args:
        connection: of the transaction.
        observer: another one, which sees what a statement holds that does not end.
        limit_ms: how long others may be blocked; 0 is no limit.
    """

    def __init__(
        self, connection: ObservedConnection, observer: ObservedConnection, limit_ms: int
    ) -> None:
        self.connection = connection
        self.observer = observer
        self.limit_ms = limit_ms
        self.migration = ""
        self.steps: list[Step] = []
        self._relations: dict[int, asyncpg.Record] = {}
        self._files: dict[int, int] = {}
        self._held: set[tuple[int, str]] = set()
        self._blocking_since: float | None = None
        self._begun = 0.0

    async def start(self) -> None:
        """Look at what is there, and watch from now on."""
        rows = await self.connection.fetch(RELATIONS)
        self._relations = {row["oid"]: row for row in rows}
        self._files = {row["oid"]: row["file"] for row in rows}
        self._pid = await self.connection.fetchval("SELECT pg_backend_pid()")  # not a pooler's
        self.connection.around = self.around

    def begin(self, migration: str) -> None:
        """Go on with the next migration, before which `migrate` lets go of its locks."""
        self._let_go()
        self.migration = migration
        self._begun = time.monotonic()

    def end(self) -> None:
        """Watch no more."""
        self._let_go()
        self.connection.around = None

    def _let_go(self) -> None:
        now = time.monotonic()
        for lock in (lock for step in self.steps for lock in step.locks):
            if lock.held_ms is None:
                lock.held_ms = round((now - lock.since) * 1000)

    async def around(self, run: Run, sql: str, *args: Any, **options: Any) -> Any:
        """Run what Piccolo or a step asked for; a script one statement after another."""
        if not self.migration:
            return await run(sql, *args, **options)
        result = None
        for each in [sql] if args else statements(sql):
            text = COMMENTS.sub(" ", each).strip()
            if SAVEPOINT.match(text):
                result = await run(each, *args, **options)
                continue
            if CONTROL.match(text) or (ATOMIC.search(text) and ENDS.search(text)):
                raise EndsTransaction(
                    f"{self.migration} begins or ends a transaction: {text[:60]}. Each migration is"
                    " in one already; leave that out."
                )
            result = await self._step(run, each, *args, **options)
            step = self.steps[-1]
            if RECORDS.match(text) and not step.locks:
                self.steps.pop()
        return result

    async def _step(self, run: Run, sql: str, *args: Any, **options: Any) -> Any:
        step = Step(self.migration, sql)
        self.steps.append(step)
        started = time.monotonic()
        left_ms = self._left_ms(started)
        if left_ms is not None:
            if left_ms <= 0:
                raise self._stopped(step)
            await self._ask("execute", f"SET LOCAL statement_timeout = {left_ms}")
        if found := SET_NOT_NULL.match(" ".join(sql.split())):
            step.is_checked = await self._ask("fetchval", CHECKED, *found.groups())
        look = asyncio.create_task(self._look_halfway(step, left_ms, started))
        try:
            result = await run(sql, *args, **options)
        except asyncpg.QueryCanceledError:
            raise self._stopped(step) from None
        finally:
            look.cancel()
            with suppress(asyncio.CancelledError):
                await look
            step.ms = round((time.monotonic() - started) * 1000)
        if left_ms is not None:  # what follows are questions of ours
            await self._ask("execute", f"SET LOCAL statement_timeout = {self.limit_ms}")
        oids = list(self._relations)
        held = await self._ask("fetch", LOCKS, self._pid, oids)
        held += await self._ask("fetch", ROWS, oids)
        step.locks += self._new(held, started)
        step.rewrites = await self._rewritten(oids)
        return result

    def _stopped(self, step: Step) -> Stopped:
        """Blame the migration, unless most of the time was that of those before it."""
        step.is_stopped = (time.monotonic() - self._begun) * 1000 >= self.limit_ms / 2
        if not step.is_stopped:
            self.steps = [each for each in self.steps if each.migration != self.migration]
        return Stopped()

    def _left_ms(self, now: float) -> int | None:
        """Return for how long the next statement may take; None is no limit."""
        if not self.limit_ms:
            return None
        blocking = 0.0 if self._blocking_since is None else now - self._blocking_since
        return round(self.limit_ms - blocking * 1000)

    async def _look_halfway(self, step: Step, left_ms: int | None, started: float) -> None:
        """Ask, while a statement takes long, what it holds: once it is stopped nobody can say."""
        if left_ms is not None:
            await asyncio.sleep(left_ms / 2000)
            found = await self.observer.fetch(LOCKS, self._pid, list(self._relations))
            step.locks += self._new(found, started)

    def _new(self, found: list[asyncpg.Record], started: float) -> list[Lock]:
        """Return the locks that were not held before."""
        locks = []
        for row in found:
            key = (row["oid"], row["mode"])
            if key in self._held:
                continue
            self._held.add(key)
            relation = self._relations[row["oid"]]
            lock = Lock(relation["name"], row["mode"], relation["bytes"], started)
            locks.append(lock)
            if lock.blocks and self._blocking_since is None:
                self._blocking_since = started
        return locks

    async def _rewritten(self, oids: list[int]) -> list[str]:
        """Return the tables that were written anew since the last look."""
        found = []
        for row in await self._ask("fetch", FILES, oids):
            if row["file"] != self._files[row["oid"]]:
                self._files[row["oid"]] = row["file"]
                found.append(self._relations[row["oid"]]["name"])
        return found

    async def _ask(self, how: str, sql: str, *args: Any) -> Any:
        """Run a statement of our own, around what is watched."""
        return await getattr(asyncpg.Connection, how)(self.connection, sql, *args)
