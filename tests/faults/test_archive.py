"""`piccolo audit archive` is killed at random points: a row is in the table, in the archive, or for
a moment in both; the next run goes on where it stood."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from audit.archive.reading import Archive
from audit.seals import seal
from audit.verify import verify
from home.database.engine import Engine
from tests.audit.trails import KEYS, fill
from tests.faults.test_trail_commands import KILLS, kill, start

pytestmark = pytest.mark.any_version
SEALS = 12
STATEMENTS = ["%", "COPY%", "%pg_advisory_xact_lock%", "DELETE%", "INSERT INTO audit_removals%"]


@pytest.mark.parametrize("kills", KILLS)
async def test_archiving(
    db: Engine, url: str, kills: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUDIT_ARCHIVE", str(tmp_path / "archive"))
    archive, hits, sealed = Archive(db, os.environ["AUDIT_ARCHIVE"]), 0, 0
    for _ in range(kills):
        for _ in range(SEALS):
            await fill(db, 1, 1_500)
            await seal(db, KEYS)
        sealed = await db.fetchval("SELECT sum(row_count)::bigint FROM audit_seals")
        now = (await db.fetchval("SELECT now()")).isoformat()
        command = ("archive", f"--before={now}", "--yes")
        hits += await kill(db, start(url, *command), 0.6, random.choice(STATEMENTS))
        found = await verify(db, KEYS, archive=archive)
        assert found.problem is None, found.problem
        assert found.verified == sealed, "a row is in neither"
        assert start(url, *command).wait() == 0
        found = await verify(db, KEYS, archive=archive)
        assert (found.problem, found.archived) == (None, sealed)
        files = {row["name"] for row in await db.fetch("SELECT name FROM audit_archives")}
        assert set(archive.store.names()) == files, "what nobody names is removed"
    print(f"R25 archive: {kills} kills, {hits} of them at work")
    assert hits, "no kill hit the middle"
