"""Backups are restored beside, verified, and what was found is on the trail."""

from __future__ import annotations

import gzip
import json
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from home.database.engine import Engine
from home.drill.beside import NAME, Place
from home.drill.restoring import all_named
from tests.audit.trails import KEY, seal_three_times
from tests.conftest import Done, run_groundwork

# The programs are PostgreSQL's, whose versions are looked at in tests of their own.
pytestmark = [pytest.mark.any_version, pytest.mark.direct]

PERSON = "INSERT INTO users (email, password_hash) VALUES ('ada@example.com', '')"
DRILLS = f"SELECT datname FROM pg_database WHERE datname LIKE '{NAME}%'"
ON_TRAIL = "SELECT details::text FROM audit_logs WHERE action = 'restore.drilled' ORDER BY id"


async def dump(url: str, file: Path, *options: str) -> Path:
    """Have pg_dump write a file."""
    newest = max([each async for each in all_named("pg_dump")])
    subprocess.run(
        [newest.path, *options, f"--file={file}"], env=Place(url).environment(), check=True
    )
    return file


def drill(url: str, *words: object, **env: str) -> tuple[Done, dict[str, Any]]:
    """Run it, and return what it found."""
    done = run_groundwork(
        url, "home", "drill", *map(str, words), "--json", **{"AUDIT_SEAL_KEY": KEY, **env}
    )
    return done, json.loads(done.stdout)


async def recorded(db: Engine) -> list[dict[str, Any]]:
    return [json.loads(row["details"]) for row in await db.fetch(ON_TRAIL)]


async def nothing_left(db: Engine) -> bool:
    return await db.fetch(DRILLS) == []


async def test_a_backup_is_restored_and_verified(db: Engine, url: str, tmp_path: Path) -> None:
    await seal_three_times(db)
    await db.execute(PERSON)
    seals = tmp_path / "seals.ndjson"
    run_groundwork(url, "audit", "seals", f"--output={seals}")
    file = await dump(url, tmp_path / "backup.dump", "--format=custom")
    done, found = drill(url, file, f"--seals={seals}")
    assert (done.returncode, done.stderr, found["problems"]) == (0, "", [])
    assert found["ok"]
    assert found["bytes"] == file.stat().st_size
    assert found["sha256"] == subprocess.check_output(["sha256sum", file], text=True).split()[0]
    assert found["trail"]["verified"] == 30
    assert found["seals"] == {"the live trail": 3, "seals.ndjson": 3}
    assert found["rows"]["users"] == [1, 1]
    assert await recorded(db) == [found]
    assert await nothing_left(db)
