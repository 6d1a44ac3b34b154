"""What pending migrations would block: they run on the real database, and are rolled back.

While they run they hold the locks that they would hold, so MIGRATE_MAX_LOCK_MS ends them.
Concurrent steps, and what comes after them, cannot be tried: `migrate` tries these later.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

import asyncpg

from audit.errors import DatabaseUnavailable, GroundworkError
from home.database.engine import Engine
from home.database.lint import BREAKING, lint
from home.database.lock_watch import Lock, LockWatch, Step, Stopped
from home.database.migrations import (
    BUSY,
    Batch,
    MigrationFailed,
    StepFailed,
    alone,
    applied_migrations,
    apply_batch,
    patiently,
    pending_in_order,
)

# A table of so many bytes is read and written anew in a moment.
SMALL = 1_000_000
LOCK_TIMEOUT_MS = 100
CHECK = "piccolo home migrate --check"


class WouldBlock(GroundworkError):
    """A migration would block others for too long, or break what still runs."""

    def __init__(self, refusals: Sequence[str]) -> None:
        super().__init__("\n".join([
            f"refused, and nothing of it was changed; see {CHECK}", *refusals,
            "docs/upgrading.md says how it is done without; --force does it all the same",
        ]))  # fmt: skip


@dataclass
class Rehearsal:
    """What came of trying migrations.

    `pending` are all ids in their order; `concurrent` the steps that come next, outside of a
    transaction; `later` what was not tried, because it comes after them or after a stop.
    """

    limit_ms: int
    pending: list[str] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    concurrent: list[str] = field(default_factory=list)
    later: list[str] = field(default_factory=list)
    is_linted: bool = False

    @property
    def blocking(self) -> list[Lock]:
        """Return the locks that keep others from reading or writing rows."""
        return [lock for step in self.steps for lock in step.locks if lock.blocks]

    @property
    def refusals(self) -> list[str]:
        """Return a line for each reason not to do this beside requests."""
        found = [f"{each.migration}: {line}" for each in self.steps for line in self._of(each)]
        if self.limit_ms and not any(step.is_stopped for step in self.steps):
            found += [
                f"{lock.mode} on {lock.table} blocks {lock.blocks} for {lock.held_ms} ms"
                for lock in self.blocking
                if (lock.held_ms or 0) > self.limit_ms
            ]
        return found

    def _of(self, step: Step) -> list[str]:
        lines = []
        if step.is_stopped:
            locks = [lock for lock in self.blocking if lock in step.locks] or self.blocking
            held = "; ".join(f"{each.mode} on {each.table} blocks {each.blocks}" for each in locks)
            if held:  # else it may take as long as it likes
                what = first_line(step.sql)
                lines.append(f"was stopped after {self.limit_ms} ms: {what} ({held})")
        large = {lock.table for lock in step.locks if lock.bytes > SMALL and lock.blocks}
        lines += [
            f"rewrites {table}, which is not small" for table in step.rewrites if table in large
        ]
        for finding in step.lint:
            if large or finding.partition(":")[0] in BREAKING:
                lines.append(f"{finding} ({first_line(step.sql)})")
        return lines

    def as_json(self) -> dict[str, object]:
        """Return all of it as plain values."""
        steps = []
        for step in self.steps:
            locks = [
                {"table": each.table, "mode": each.mode, "blocks": each.blocks,
                 "held_ms": each.held_ms, "table_bytes": each.bytes}
                for each in step.locks
            ]  # fmt: skip
            steps.append(asdict(step) | {"locks": locks})
        return {
            "limit_ms": self.limit_ms, "pending": self.pending, "steps": steps,
            "concurrent": self.concurrent, "later": self.later, "is_linted": self.is_linted,
            "refusals": self.refusals,
        }  # fmt: skip


def first_line(sql: str) -> str:
    """Return a statement's beginning, on one line."""
    text = " ".join(sql.split())
    return text if len(text) <= 100 else text[:99] + "…"


async def refuse_what_blocks(db: Engine) -> None:
    """Try the next migration.

    Raises:
        WouldBlock: it would hold up others for too long, or break the release before.
    """
    found = await rehearse(db, most=1)
    if found.refusals:
        raise WouldBlock(found.refusals)


async def rehearse(db: Engine, most: int | None = None) -> Rehearsal:
    """Run what is pending, up to concurrent steps, and roll it back. Sequences stay as far as they
    got. Several need more tables at once than `migrate` does: if these are in use, it is one.

    Args:
        most: how many migrations.

    Raises:
        MigrationFailed: a table stayed in use.
        StepFailed: a migration fails.
        EndsTransaction: one begins or ends a transaction itself.
    """
    async with db.connection() as connection:
        pending = await pending_in_order(connection)
        is_empty = not await applied_migrations(connection)
    found = Rehearsal(db.settings.migrate_max_lock_ms, pending)
    if is_empty or not pending:  # nobody uses what is not there yet
        return found
    watch: LockWatch
    batch: Batch
    try:
        many = min(most or len(pending), len(pending))
        watch, batch, version = await patiently(lambda: _try(db, found.limit_ms, many))
    except MigrationFailed as error:
        if many == 1 or isinstance(error, StepFailed):
            raise
        watch, batch, version = await patiently(lambda: _try(db, found.limit_ms, 1))
    found.steps = watch.steps
    if batch.next is not None:
        found.concurrent = [step.sql for step in batch.next.concurrent]
    tried = {*batch.applied, *(step.migration for step in watch.steps)}
    found.later = [id_ for id_ in pending if id_ not in tried]
    found.is_linted = await lint(found.steps, version)
    return found


async def _try(db: Engine, limit_ms: int, most: int) -> tuple[LockWatch, Batch, str]:
    batch = Batch()
    observer = await db.get_new_connection()
    try:
        async with db.transaction() as transaction, alone(db) as connection:
            timeout = min(limit_ms // 2, LOCK_TIMEOUT_MS) if limit_ms else LOCK_TIMEOUT_MS
            await connection.execute(f"SET LOCAL lock_timeout = {max(timeout, 1)}")
            if limit_ms:  # if this process stops in the middle
                await connection.execute(
                    f"SET LOCAL idle_in_transaction_session_timeout = {max(limit_ms, 100)}"
                )
            watch = LockWatch(connection, observer, limit_ms)
            await watch.start()
            try:
                batch = await apply_batch(connection, watch.begin, most=most)
            except Stopped:
                pass
            except asyncpg.PostgresError as error:
                if isinstance(error, BUSY):
                    raise
                raise StepFailed(f"{watch.migration}: {error.args[0]}") from error
            except DatabaseUnavailable:
                if not connection.is_closed():
                    raise
                raise StepFailed(
                    f"{watch.migration}: the connection was lost. If it does something else for"
                    f" longer than {limit_ms} ms between two statements, do that beforehand."
                ) from None
            finally:
                watch.end()
            await transaction.rollback()
            major = connection.get_server_version().major
    finally:
        await observer.close(timeout=1)
    return watch, batch, f"{major}.0"
