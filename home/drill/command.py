"""`piccolo home drill`: restore a backup beside the live database, verify it, and say so."""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import datetime
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import asyncpg

from audit.cli import CommandError, WrongOption, command
from audit.errors import DatabaseUnavailable, GroundworkError
from audit.printable import printable
from audit.progress import following, progress
from audit.record import record
from home.services import Services

if TYPE_CHECKING:
    from home.database.engine import Engine
    from home.drill.beside import Place
    from home.drill.checks import Counts

ACTION = "restore.drilled"
PROBLEMS = 20  # that are recorded and shown
LONGEST_HOURS = 24 * 7
TERMINATED = 143


@dataclass
class Report:
    """What a drill found: the evidence.

    Args:
        newest_record: when the newest row of the backup's trail was written.
        rows: by table: those in the backup, and those live at the end of the drill.
        trail: what `piccolo audit verify` says of it.
        seals: how many of the live ones, and of those in the file, are in the backup.
        left: databases of drills that died before, which this one removed.
    """

    file: str
    bytes: int = 0
    sha256: str = ""
    restored: bool = False
    ok: bool = False
    problems: list[str] = field(default_factory=list)
    newest_record: datetime | None = None
    restore_seconds: float = 0.0
    verify_seconds: float = 0.0
    rows: Counts = field(default_factory=dict)
    migrated: list[str] = field(default_factory=list)
    trail: dict[str, Any] = field(default_factory=dict)
    seals: dict[str, int] = field(default_factory=dict)
    left: int = 0
    postgres: int = 0

    def details(self) -> dict[str, Any]:
        """Return what JSON is to say of it."""
        newest = self.newest_record and self.newest_record.isoformat()
        return {**asdict(self), "newest_record": newest, "problems": self.problems[:PROBLEMS]}


@command
async def drill(
    services: Services,
    backup: str,
    into: str = "",
    seals: str = "",
    hours: int = 24,
    json: bool = False,
) -> None:
    """Prove that a backup can be restored: restore it into a new database beside the live one,
    migrate and verify its schema, verify its trail, compare its seals and rows with the live ones,
    and drop it. Into the live database goes only what was found, as a row of the trail. What an
    interrupted drill leaves, the next one removes. Exits 1 unless all of it was restored and
    verified, 2 for wrong options. A dump is a program: drill only what you would restore.

    :param backup: a file of pg_dump: --format=custom, or plain SQL; also packed by gzip
    :param into: a database of another server, as postgresql://user@host/postgres; with a password
        it has to be in DRILL_URL instead; the role has to be allowed to make databases
    :param seals: a file from `piccolo audit seals`, kept elsewhere: its seals have to be in it
    :param hours: give up after so many
    :param json: print what was found as JSON

    """
    from home.drill.beside import Place

    if not 1 <= hours <= LONGEST_HOURS:
        raise WrongOption(f"--hours is a number from 1 to {LONGEST_HOURS}")
    place = Place.given(into, services.settings)
    path, report = Path(backup), Report(printable(Path(backup).name)[:255])
    with _terminating() as terminated:
        try:
            async with asyncio.timeout(hours * 3600):
                await _drill(services, path, place, Path(seals) if seals else None, report)
        except TimeoutError:
            report.problems.append(f"it took more than {hours} hours")
        except (GroundworkError, CommandError, OSError) as error:
            report.problems.append(printable(str(error)))
        except asyncpg.PostgresError as error:
            report.problems.append(f"the database refused: {printable(error.args[0])}")
        except asyncio.CancelledError:
            report.problems.append("it was interrupted")
            await _tell(services, path, report, json)
            if not terminated:
                raise
            sys.exit(TERMINATED)
        report.ok = report.restored and not report.problems
        is_recorded = await _tell(services, path, report, json)
    if not (report.ok and is_recorded):
        sys.exit(1)


async def _drill(
    services: Services, path: Path, place: Place | None, seals: Path | None, report: Report
) -> None:
    """Do it; what was found until something fails is in the report."""
    from home.drill import checks
    from home.drill.backup import Backup, DrillFailed
    from home.drill.beside import Place, database_beside
    from home.drill.restoring import restore

    live = services.db
    size = await live.fetchval("SELECT pg_database_size(current_database())")
    if place is None and services.settings.db_pooler != "none":
        raise DrillFailed("DATABASE_URL leads to a pooler: name the server itself, in DRILL_URL")
    if seals is not None:
        [_ async for _ in checks.kept_seals(seals)]  # before an hour of work
    backup = Backup.look_at(path)
    began = time.monotonic()
    async with database_beside(place or Place.live(live), services.settings, size) as server:
        report.left, report.postgres = server.left, server.major
        with following("restoring", lambda: (backup.read, backup.size)):
            try:
                await restore(backup, server.place.environment(), server.major)
            finally:
                report.sha256 = backup.sha256
                report.restore_seconds = round(time.monotonic() - began, 1)
        report.restored = True
        began = time.monotonic()
        restored = server.place.engine(services.settings)
        try:
            await _verify(Services(restored, services.settings), live, server.place, seals, report)
        finally:
            await restored.close_connection_pool()
            report.verify_seconds = round(time.monotonic() - began, 1)


async def _verify(
    copy: Services, live: Engine, place: Place, seals: Path | None, report: Report
) -> None:
    """Verify what was restored."""
    from audit.archived import archive_of
    from audit.digests import SealKeys
    from audit.settings import AuditSettings
    from audit.verify import verify
    from home.drill import checks

    restored = copy.db
    report.migrated = await checks.pending(restored)
    report.newest_record = newest = await restored.fetchval(checks.NEWEST)
    report.rows = await checks.counts(restored, live)
    if report.migrated:
        await checks.migrate(restored, place)
    report.problems += await checks.schema_problems(restored, place)
    if any(map(checks.is_of_trail, report.problems)):
        report.problems.append("trail: not verified, since its tables are not as declared")
        return
    archive = archive_of(copy)
    rows = await restored.fetchval(checks.SEALED)
    with progress("verifying", rows) as advance:
        found = await verify(
            restored,
            SealKeys.of(copy.settings_of(AuditSettings)),
            progress=advance,
            archive=archive.following() if archive else None,
        )
    report.trail = asdict(found)
    if found.problem:
        report.problems.append(f"trail: {found.problem.message}")
    kept = {"the live trail": checks.live_seals(live)}
    if seals is not None:
        kept[seals.name] = checks.kept_seals(seals)
    for name, each in kept.items():
        report.seals[name], problem = await checks.compare_seals(restored, each, name, newest)
        report.problems += [f"seals: {problem}"] if problem else []
    if problem := await checks.newer_seal(restored, live):
        report.problems.append(f"seals: {problem}")


async def _tell(services: Services, path: Path, report: Report, json: bool) -> bool:
    """Record and print what was found; return whether it is on the trail."""
    report.problems = [each[:500] for each in report.problems]
    report.bytes = path.stat().st_size if path.is_file() else 0
    details = report.details()
    is_recorded = True
    try:
        await record(services.db, ACTION, "backup", report.file, details)
    except (DatabaseUnavailable, asyncpg.PostgresError) as error:
        print(f"This drill is not on the trail: {error.args[0]}", file=sys.stderr)
        is_recorded = False
    print(dumps(details) if json else _in_words(report), flush=True)
    return is_recorded


def _in_words(report: Report) -> str:
    lines = [f"{report.file}: {report.bytes:,} bytes, SHA-256 {report.sha256 or 'unknown'}"]
    if report.left:
        lines.append(f"removed {report.left} databases of drills that were interrupted")
    if report.restored:
        newest = f"{report.newest_record:%Y-%m-%d %H:%M} UTC" if report.newest_record else "none"
        lines.append(f"restored in {_minutes(report.restore_seconds)}; newest record: {newest}")
    if report.migrated:
        lines.append(f"older than this release: {len(report.migrated)} migrations were applied")
    if report.trail:
        trail = report.trail
        lines.append(
            f"trail: {trail['verified']} rows under {trail['seals']} seals verified in"
            f" {_minutes(report.verify_seconds)} ({trail['unsealed']} rows not sealed yet)"
        )
    lines += [f"seals: {number} of {name} are in it" for name, number in report.seals.items()]
    if report.rows:
        lines.append("rows in backup / live now:")
        shown = {
            n: ["none" if r is None else str(r) for r in both] for n, both in report.rows.items()
        }
        lines += [f"  {printable(name)}: {' / '.join(both)}" for name, both in shown.items()]
    lines += [f"PROBLEM: {each}" for each in report.problems[:PROBLEMS]]
    if more := report.problems[PROBLEMS:]:
        lines.append(f"and {len(more)} more problems")
    lines.append("the backup can be restored" if report.ok else "THE DRILL FAILED")
    return "\n".join(lines)


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.1f} minutes" if seconds >= 60 else f"{seconds:.1f} seconds"


@contextmanager
def _terminating() -> Iterator[list[bool]]:
    """End this task as Ctrl-C does where systemd and others send SIGTERM; then the list is true."""
    task, terminated = asyncio.current_task(), list[bool]()
    assert task is not None

    def terminate() -> None:
        terminated.append(True)
        task.cancel()

    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, terminate)
    try:
        yield terminated
    finally:
        loop.remove_signal_handler(signal.SIGTERM)
