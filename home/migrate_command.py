"""`piccolo home migrate`: trying what is pending, refusing what would block, applying it."""

from __future__ import annotations

import json as json_
import sys

import asyncpg

from audit.cli import WrongOption, command
from audit.progress import progress
from home.database.migrations import StepFailed
from home.database.migrations import migrate as apply_migrations
from home.database.rehearsal import Rehearsal, first_line, refuse_what_blocks, rehearse
from home.services import Services

WOULD_BLOCK = 3


@command
async def migrate(
    services: Services, check: bool = False, json: bool = False, force: bool = False
) -> None:
    """Apply all pending migrations: to an empty database in one transaction, later each in its own,
    but for concurrent steps, which run outside of one and go on where they were killed. Several at
    once are safe: one applies them, the others wait and exit 0. A table that is in use is waited
    for briefly, and again. In production each migration is tried first, and refused with exit code
    1 if it would block others for longer than MIGRATE_MAX_LOCK_MS or break the release before.

    With --check nothing is applied: migrations run and are rolled back, and each statement is shown
    with the locks it takes, whom they block and for how long they are held. They block others
    meanwhile, for at most MIGRATE_MAX_LOCK_MS. Concurrent steps and what comes after them cannot be
    tried. Exits 0 if nothing would be refused, 1 if it failed, 3 if something would be refused.

    :param check: say what would happen, instead of doing it
    :param json: print the result of --check as JSON
    :param force: apply what would be refused in production

    """
    if json and not check:
        raise WrongOption("--json goes with --check")
    if check:
        await _check(services, json)
        return
    applied = await apply_pending(services, force)
    for migration in applied:
        print(f"applied {migration}")
    if not applied:
        print("nothing to apply")


async def apply_pending(services: Services, force: bool = False) -> list[str]:
    """Apply what is pending, with its progress on a terminal; in production it is tried first.

    Raises:
        MigrationFailed, StepFailed, WouldBlock: see there.
    """
    db = services.db
    is_careful = db.settings.environment == "production" and not force
    current = ""
    with progress("migrating") as advance:

        def tell(what: str) -> None:
            nonlocal current
            current = what
            advance(1)
            if sys.stderr.isatty():
                print(f"applying {what}", file=sys.stderr)

        check = (lambda: refuse_what_blocks(db)) if is_careful else None
        try:
            return await apply_migrations(db, check=check, tell=tell)
        except asyncpg.PostgresError as error:
            raise StepFailed(f"{current}: {error.args[0]}. What came before it stays.") from error


async def _check(services: Services, json: bool) -> None:
    found = await rehearse(services.db)
    if json:
        print(json_.dumps(found.as_json()))
    else:
        print("\n".join(in_words(found)))
    if found.refusals:
        sys.exit(WOULD_BLOCK)


def in_words(found: Rehearsal) -> list[str]:
    """Return the lines that a person reads."""
    if not found.pending:
        return ["nothing to apply"]
    lines = []
    migration = ""
    for step in found.steps:
        if step.migration != migration:
            migration = step.migration
            lines.append(migration)
        lines.append(f"  {first_line(step.sql)}  {step.ms} ms" + " stopped" * step.is_stopped)
        lines += [
            f"    {lock.mode} on {lock.table} for {lock.held_ms} ms: blocks "
            + (lock.blocks or "nobody who reads or writes rows")
            for lock in step.locks
        ]
        lines += [f"    writes {table} anew" for table in step.rewrites]
        lines += [f"    {finding}" for finding in step.lint]
    lines += [f"concurrently, blocks nobody, not tried: {sql}" for sql in found.concurrent]
    lines += [f"not tried, because it comes later: {id_}" for id_ in found.later]
    if found.steps and not found.is_linted:
        lines.append("not linted: squawk is not installed (pip install squawk-cli)")
    return lines + [f"refused: {line}" for line in found.refusals]
