"""Verifying beside the requests: somebody starts it, may go away, and sees how far it is.

One at a time, whichever process does it: PostgreSQL decides by an advisory lock.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

import asyncpg

from audit.apps import Services
from audit.archived import archive_of
from audit.database import Database, Queries, Record
from audit.digests import SealKeys
from audit.errors import GroundworkError
from audit.ids import HIGHEST
from audit.log import Logger
from audit.sentences import details_of
from audit.settings import AuditSettings
from audit.verify import AlreadyVerifying, record_result, verify

if TYPE_CHECKING:
    from audit.archive.reading import Archive

LOCK = 0x56455249  # «VERI» in ASCII
LONGEST_SECONDS = 3_600.0
CLOSE_SECONDS = 2.0
SEALS_OF_A_PAGE = 50

ROWS = """
    SELECT coalesce(sum(row_count), 0)::bigint FROM audit_seals WHERE pruned_at IS NULL
"""
IS_LOCKED = """
    SELECT EXISTS (
        SELECT FROM pg_locks
        WHERE locktype = 'advisory' AND objsubid = 1 AND classid = 0 AND objid = $1
          AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))
"""
LAST = """
    SELECT id, user_id, actor, created_at, details::text AS details
    FROM audit_logs WHERE action = 'audit.verify' ORDER BY created_at DESC, id DESC LIMIT 1
"""
SEALS = """
    SELECT id, first_id, last_id, row_count, key_id, created_at, archived_at, pruned_at
    FROM audit_seals WHERE id < $1 ORDER BY id DESC LIMIT $2
"""
STANDING = """
    SELECT (SELECT count(*) FROM (SELECT FROM audit_logs WHERE id > bound.id LIMIT 100001) AS rows)
           AS unsealed
    FROM (SELECT coalesce(max(last_id), 0) AS id FROM audit_seals) AS bound
"""

log = Logger("groundwork.audit")
# By database and key; each keeps its database, so that no other has its id.
_verifiers: dict[tuple[int, str | None, str | None], Verifier] = {}


@dataclass
class Progress:
    """The progress of this process's verification.

    Args:
        total: rows under seals when it began; None while they are being counted.
        failed: why it did not come to an end, for people.
    """

    done: int = 0
    total: int | None = None
    is_running: bool = True
    failed: str = ""
    began: float = 0.0

    @property
    def seconds(self) -> int:
        return int(time.monotonic() - self.began)


class LastVerification(NamedTuple):
    """The result of the newest verification.

    Args:
        seals: how many were verified.
        problem: the first thing that is not as it was sealed.
    """

    row: Record
    created_at: datetime
    is_intact: bool
    verified: int
    seals: int
    problem: str


class Verifier:
    """Starts verifications, and knows how far the one of this process is."""

    def __init__(self, db: Database, keys: SealKeys, archive: Archive | None = None) -> None:
        self.db = db
        self.keys = keys
        self.archive = archive
        self.progress: Progress | None = None  # of the last one; None before the first
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to verify, in a task of its own.

        Raises:
            AlreadyVerifying: one is under way, here or in another process.
        """
        if self._task is not None and not self._task.done():
            raise AlreadyVerifying
        if await is_running(self.db):
            raise AlreadyVerifying
        self.progress = Progress(began=time.monotonic())
        self._task = asyncio.create_task(self._run(self.progress), name="verify the trail")

    async def close(self) -> None:
        """Give up: the process is about to end."""
        task, self._task = self._task, None
        if task is not None and not task.done():
            task.cancel()
            await asyncio.wait({task}, timeout=CLOSE_SECONDS)
        if self.progress is not None:  # also where the task had not begun
            self.progress.is_running = False

    async def _run(self, progress: Progress) -> None:
        def advance(rows: int) -> None:
            progress.done += rows

        try:
            async with asyncio.timeout(LONGEST_SECONDS):
                progress.total = await self.db.fetchval(ROWS)
                archive = self.archive.following() if self.archive else None
                report = await verify(
                    self.db, self.keys, progress=advance, lock=LOCK, archive=archive
                )
                await record_result(self.db, report)
        except TimeoutError:
            progress.failed = "It took more than an hour. Use piccolo audit verify."
        except (GroundworkError, asyncpg.PostgresError) as error:
            is_ours = isinstance(error, GroundworkError) and not isinstance(error, ConnectionError)
            progress.failed = str(error) if is_ours else "The database did not answer. Try again."
            log.warning("verification_failed", error=type(error).__name__)
        finally:
            progress.is_running = False


def verifier_of(services: Services) -> Verifier:
    """Return the one of an application."""
    settings = services.settings_of(AuditSettings)
    key = settings.audit_seal_key
    known = (id(services.db), key.get_secret_value() if key else None, settings.audit_archive)
    if known not in _verifiers:
        _verifiers[known] = Verifier(services.db, SealKeys(known[1]), archive_of(services))
    return _verifiers[known]


def lifespan(services: Services) -> list[AbstractAsyncContextManager[None]]:
    """Return what ends a verification before the database is closed."""

    @asynccontextmanager
    async def closing() -> AsyncIterator[None]:
        try:
            yield
        finally:
            await verifier_of(services).close()

    return [closing()]


async def is_running(db: Queries) -> bool:
    """Return whether the trail is being verified, here or in another process."""
    return bool(await db.fetchval(IS_LOCKED, LOCK))


async def last_verification(db: Queries) -> LastVerification | None:
    """Return what the newest verification found, if there was one."""
    row = await db.fetchrow(LAST)
    if row is None:
        return None
    details = details_of(row)
    found: dict[str, Any] = details if isinstance(details, dict) else {}
    verified, seals = (
        n if isinstance(n := found.get(name), int) else 0 for name in ("verified", "seals")
    )
    problem = str(found.get("problem") or "")[:500]
    is_intact = found.get("intact") is True
    return LastVerification(row, row["created_at"], is_intact, verified, seals, problem)


async def newest_seals(db: Queries, before: int = HIGHEST) -> tuple[list[Record], int | None]:
    """Return a page of seals, the newest first, and the number before which the next one begins."""
    rows = await db.fetch(SEALS, before, SEALS_OF_A_PAGE + 1)
    more = rows[SEALS_OF_A_PAGE - 1]["id"] if len(rows) > SEALS_OF_A_PAGE else None
    return rows[:SEALS_OF_A_PAGE], more


async def unsealed(db: Queries) -> int:
    """Return the number of rows that no seal covers yet; nobody counts beyond 100,001."""
    return int(await db.fetchval(STANDING))
