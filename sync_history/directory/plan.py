"""What a directory and the accounts differ in, and whether that may be put right."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from audit.database import Connection
from home.database.connection import ObservedConnection
from sync_history.directory.parser import Entry, read_people
from sync_history.sources import Run, SyncFailed

SQL = Path(__file__).parent / "sql"
# For statements over all people: no compiling, no sorting on disk, no joining one by one because
# tables have just been filled.
BULK = """
    SELECT set_config('jit', 'off', true), set_config('work_mem', '64MB', true),
           set_config('enable_nestloop', 'off', true)
"""
LINES = """
    CREATE TEMP TABLE directory_lines (
        line integer, email text, display_name text, organization text, clerk_id text,
        has_left boolean, is_broken boolean
    ) ON COMMIT DROP
"""
PROBLEMS = """
    SELECT line, problem, first FROM directory_matches
    WHERE problem IS NOT NULL AND NOT is_broken ORDER BY line
"""
FIGURES = """
    SELECT action, count(*), min(number) - 1 AS first, max(number) AS last
    FROM directory_changes WHERE run_id = $1 GROUP BY action ORDER BY first
"""
# The account that has to stay, if all superusers who can sign in are about to leave.
LAST_SUPERUSER = """
    DELETE FROM directory_changes WHERE number = (
        SELECT number FROM directory_changes JOIN users ON users.id = user_id
        WHERE run_id = $1 AND action = 'leave' AND is_superuser AND is_approved AND NOT is_disabled
        ORDER BY user_id LIMIT 1
    ) AND NOT EXISTS (
        SELECT FROM users WHERE is_superuser AND is_approved AND NOT is_disabled
        AND id NOT IN (SELECT user_id FROM directory_changes
                       WHERE run_id = $1 AND action = 'leave')
    ) RETURNING email
"""
HOLD_BACK = """
    DELETE FROM directory_changes WHERE run_id = $1 AND action = 'leave' AND line IS NULL
"""
PIECE = 500  # lines between two turns of other tasks


@dataclass
class Plan:
    """The changes that a run is about to make; they are in `directory_changes`.

    Args:
        unit: what the numbers of lines count.
        lines: people the file holds, broken lines included.
        failed: lines and people that cannot be synced; each has been reported.
        unreadable: those of them of whom nobody knows whom they are about.
        missing: people who are not in the file any more.
        batches: for each action, in this order: those before its first and of its last change.
        counts: how many changes an action has.
        held_back: missing people who are not disabled because of unreadable lines.
    """

    unit: str = "line"
    lines: int = 0
    failed: int = 0
    unreadable: int = 0
    missing: int = 0
    held_back: int = 0
    batches: dict[str, tuple[int, int]] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)


async def make_plan(connection: ObservedConnection, run: Run, path: Path) -> Plan:
    """Read a file, and store what has to change. Inside a transaction; no account is touched.

    Raises:
        SyncFailed: the file cannot be used.
    """
    plan = Plan()
    await connection.execute(BULK)
    await _load(connection, run, path, plan)
    await connection.execute((SQL / "matches.sql").read_text(encoding="utf-8"))
    await connection.execute("ANALYZE directory_matches")
    async for row in connection.cursor(PROBLEMS):
        plan.failed += 1
        first = "" if row["first"] is None else f" {plan.unit} {row['first']}"
        run.failed(f"{plan.unit} {row['line']}", row["problem"] + first)
    await connection.execute("DELETE FROM directory_changes")  # of runs that did not get far
    changes = (SQL / "changes.sql").read_text(encoding="utf-8")
    await connection.execute(changes, run.id)
    await connection.execute("ANALYZE directory_changes")  # else batches are joined one by one
    await _count(connection, run, plan)
    plan.missing = await connection.fetchval(
        "SELECT count(*) FROM directory_changes WHERE action = 'leave' AND line IS NULL"
    )
    run.total(plan.lines + plan.missing)
    await _hold_back(connection, run, plan)
    return plan


async def _load(connection: ObservedConnection, run: Run, path: Path, plan: Plan) -> None:
    plan.unit, people = read_people(path)

    async def rows() -> AsyncIterator[tuple[Any, ...]]:
        for line in people:
            plan.lines += 1
            if plan.lines % PIECE == 0:
                await asyncio.sleep(0)
            if line.problem is not None:
                plan.failed += 1
                run.failed(f"{plan.unit} {line.number}", line.problem)
            if line.email is None:
                plan.unreadable += 1
            else:
                yield (*line[: len(Entry._fields) - 1], line.problem is not None)

    await connection.execute(LINES)
    await connection.copy_records_to_table("directory_lines", records=rows())
    if plan.lines == plan.unreadable:
        raise SyncFailed("The directory holds no people that can be read. Nothing was changed.")
    await connection.execute("ANALYZE directory_lines")


async def _count(connection: Connection, run: Run, plan: Plan) -> None:
    figures = await connection.fetch(FIGURES, run.id)
    plan.batches = {row["action"]: (row["first"], row["last"]) for row in figures}
    plan.counts = {row["action"]: row["count"] for row in figures}


async def _hold_back(connection: Connection, run: Run, plan: Plan) -> None:
    """Take those off the plan who must not be disabled now."""
    if plan.unreadable and plan.missing and not run.force:
        await connection.execute(HOLD_BACK, run.id)
        plan.held_back = plan.missing
        run.note(
            f"{plan.missing} people are missing from the directory. They keep their accounts as "
            f"long as {plan.unreadable} {plan.unit}s cannot be read: those may be about them."
        )
    last = await connection.fetchval(LAST_SUPERUSER, run.id)
    if last is not None:
        plan.failed += 1
        run.failed(last, "has left, but is the last active superuser: make somebody else one")
    await _count(connection, run, plan)


async def check_limit(connection: Connection, run: Run, plan: Plan, percent: int) -> None:
    """Refuse to disable many at once: half a file looks like a company that left.

    Args:
        percent: of the people whom the directory has listed until now.

    Raises:
        SyncFailed: there are more, and nobody forces it.
    """
    leaving = plan.counts.get("leave", 0)
    managed = await connection.fetchval(
        "SELECT count(*) FROM directory_people WHERE left_at IS NULL"
    )
    if leaving * 100 > managed * percent and not run.force:
        raise SyncFailed(
            f"{leaving} of {managed} people have left the directory, which is more than the "
            f"{percent} % of DIRECTORY_MAX_DISABLE. Nothing was changed. If they really left, "
            "force the run."
        )
