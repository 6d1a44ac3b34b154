"""`piccolo audit seal`, `prune`, `erase` and `export` are killed at random points: all or
nothing, and the next run goes on where they stood."""

from __future__ import annotations

import asyncio
import json
import os
import random
import subprocess
import sys
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

import pytest

from audit.erase import pseudonym_of
from audit.seals import seal
from audit.tables import AuditLog, AuditSeal
from audit.verify import Verification, verify
from home.database.engine import Engine
from tests.audit.trails import KEY, KEYS, fill
from tests.conftest import ROOT

pytestmark = pytest.mark.any_version
KILLS = [3, pytest.param(20, marks=pytest.mark.long)]
SECONDS = 0.4  # at most, from the beginning of the work to the kill
CONNECTED = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'to be killed'"
AT_WORK = f"{CONNECTED} AND xact_start IS NOT NULL AND query LIKE $1"


def start(url: str, *arguments: str) -> subprocess.Popen[bytes]:
    named = f"{url}{'&' if '?' in url else '?'}application_name=to%20be%20killed"
    return subprocess.Popen(
        [str(Path(sys.executable).parent / "piccolo"), "audit", *arguments],
        cwd=ROOT,
        env={**os.environ, "DATABASE_URL": named, "AUDIT_SEAL_KEY": KEY},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


async def until(condition: Callable[[], Awaitable[bool]], process: subprocess.Popen[bytes]) -> bool:
    """Return whether it came true before the process had ended."""
    async with asyncio.timeout(60):
        while not await condition():
            if process.poll() is not None:
                return False
            await asyncio.sleep(0.002)
    return True


async def kill(
    db: Engine, process: subprocess.Popen[bytes], seconds: float = SECONDS, query: str = "%"
) -> bool:
    """Kill it up to so many seconds after a query; return whether it was still at work."""

    async def works() -> bool:
        return bool(await db.fetchval(AT_WORK, query))

    await until(works, process)
    await asyncio.sleep(random.uniform(0, seconds))
    was_working = process.poll() is None
    process.kill()
    process.wait()
    async with asyncio.timeout(20):
        while await db.fetchval(CONNECTED):
            await asyncio.sleep(0.01)
    return was_working


async def intact(db: Engine) -> Verification:
    found = await verify(db, KEYS)
    assert found.problem is None, found.problem
    return found


@pytest.mark.parametrize("kills", KILLS)
async def test_sealing(db: Engine, url: str, kills: int) -> None:
    hits = before = 0
    for _ in range(kills):
        await fill(db, 1, 30_000)
        hits += await kill(db, start(url, "seal"))
        found = await intact(db)
        assert found.verified >= before
        assert found.verified + found.unsealed == await count(db)
        before = found.verified
    assert start(url, "seal").wait() == 0
    assert (await intact(db)).verified == await count(db)
    print(f"R23 seal: {kills} kills, {hits} of them at work")
    assert hits, "no kill hit the middle"


async def count(db: Engine) -> int:
    return int(await db.fetchval("SELECT count(*) FROM audit_logs"))


@pytest.mark.parametrize("kills", KILLS)
async def test_pruning(db: Engine, url: str, kills: int) -> None:
    for row in range(1, 1 + 60 * kills):
        await fill(db, row * 10, row * 10 + 9)
        await seal(db, KEYS)
    total, hits = await count(db), 0
    for step in range(kills):
        last = AuditSeal.select(AuditSeal.last_id).where(AuditSeal.id == 50 * (step + 1))
        [seal_] = await last
        [at] = await AuditLog.select(AuditLog.created_at).where(AuditLog.id == seal_["last_id"])
        before = f"--before={at['created_at'].isoformat()}"
        hits += await kill(db, start(url, "prune", before, "--yes"), 0.1, "DELETE%")
        found = await intact(db)
        assert found.pruned + found.verified == total, "a row went without its record, or stayed"
        assert start(url, "prune", before, "--yes").wait() == 0
    records = await AuditLog.select(AuditLog.details).where(AuditLog.action == "audit.prune")
    assert sum(json.loads(row["details"])["rows"] for row in records) == (await intact(db)).pruned
    print(f"R23 prune: {kills} kills, {hits} of them at work")
    assert hits, "no kill hit the middle"


async def of_person(db: Engine, id_: int) -> tuple[int, int, int]:
    """How many rows name person id_, are by their pseudonym, and how many accounts there are."""
    row = await db.fetchrow(
        "SELECT count(*) FILTER (WHERE actor = $1), count(*) FILTER (WHERE actor = $2),"
        " (SELECT count(*) FROM users WHERE id = $3) FROM audit_logs",
        f"person{id_}@example.com", pseudonym_of(id_), id_,
    )  # fmt: skip
    assert row is not None
    return row[0], row[1], row[2]


@pytest.mark.parametrize("kills", KILLS)
async def test_erasing(db: Engine, url: str, kills: int) -> None:
    """All of a person goes, or nothing."""
    await db.fetch(
        "INSERT INTO users (id, email, password_hash) SELECT n, 'person' || n || '@example.com', ''"
        " FROM generate_series(1, $1::int) n", kills,
    )  # fmt: skip
    await db.fetch(
        "INSERT INTO audit_logs (actor, user_id, action, resource, resource_id, ip_address)"
        " SELECT 'person' || n % $1 + 1 || '@example.com', n % $1 + 1, 'things.made', 'things', n,"
        " '10.0.0.1' FROM generate_series(1, $1 * 4000) n", kills,
    )  # fmt: skip
    await seal(db, KEYS)
    hits = 0
    for person in range(1, kills + 1):
        arguments = ("erase", f"--person={person}", "--reason=asked", "--yes")
        hits += await kill(db, start(url, *arguments), 0.3, "%UPDATE audit_logs SET%")
        assert await of_person(db, person) in ((4000, 0, 1), (0, 4000, 0))
        await intact(db)
        start(url, *arguments).wait()
        assert await of_person(db, person) == (0, 4000, 0)
    await intact(db)
    print(f"R23 erase: {kills} kills, {hits} of them at work")
    assert hits, "no kill hit the middle"


async def has_begun(exports: int) -> bool:
    started = AuditLog.action == "audit.export_started"
    return int(await AuditLog.count().where(started)) == exports


@pytest.mark.parametrize("kills", KILLS)
async def test_exporting(db: Engine, url: str, kills: int, tmp_path: Path) -> None:
    await fill(db, 1, 40_000)
    hits = 0
    for number in range(kills):
        file = tmp_path / f"trail{number}.ndjson"

        process = start(url, "export", f"--output={file}", "--resource=users")
        assert await until(partial(has_begun, number + 1), process), "its start is recorded"
        hits += await kill(db, process, 1.0)
        if file.exists():
            assert file.read_bytes().count(b"\n") == 40_000, "a torn file under its final name"
    print(f"R23 export: {kills} kills, {hits} of them at work")
    assert hits, "no kill hit the middle"
    file = tmp_path / "trail.ndjson"
    assert start(url, "export", f"--output={file}", "--resource=users").wait() == 0
    assert file.read_bytes().count(b"\n") == 40_000
