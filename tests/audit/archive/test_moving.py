"""Rows move from the table to a file, and stay what they were."""

from __future__ import annotations

import asyncio
import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import pytest

from audit.archive.moving import AlreadyArchiving, Moved, archive_step
from audit.archive.reading import Archive
from audit.archive.store import ArchiveUnavailable
from audit.digests import SealKeys
from audit.export import Export
from audit.filters import Filters
from audit.prune import NotAsSealed, Pruned, due, prune
from audit.reading import page
from audit.seals import OtherKey
from audit.tables import AuditLog
from audit.verify import ArchiveMissing, ArchiveUnreadable, NoArchive, verify
from home.database.engine import Engine
from tests.audit.trails import KEYS, seal_three_times, tamper

pytestmark = pytest.mark.any_version
TOMORROW = datetime.now(UTC) + timedelta(days=1)


async def test_rows_move_and_are_verified_and_read(db: Engine, archive: Archive) -> None:
    await seal_three_times(db)
    whole = await page(db, Filters())
    assert await archive_step(archive, KEYS, TOMORROW) == Moved(1, 3, 1, 30, 28)
    assert await AuditLog.count() == 1  # the record of it
    report = await verify(db, KEYS, archive=archive.following())
    assert (report.problem, report.archived, report.verified) == (None, 28, 28)
    found = await page(db, Filters(resource="users"), archive=archive)
    assert [row["id"] for row in found.rows] == [row["id"] for row in whole.rows]
    exported = [
        json.loads(line)
        async for chunk in Export(db, Filters(), archive=archive).chunks()
        for line in chunk.splitlines()
    ]
    assert [row["id"] for row in exported][:28] == [*range(1, 11), *range(12, 21), *range(22, 31)][
        :28
    ]
    assert await archive_step(archive, KEYS, TOMORROW) is None


async def test_pruning_removes_files_of_which_all_is_old(db: Engine, archive: Archive) -> None:
    await seal_three_times(db)
    ends = [row["created_at"] for row in await AuditLog.select().order_by(AuditLog.id)]
    for at in (ends[12], ends[21]):
        assert await archive_step(archive, KEYS, at)
    assert len(archive.store.names()) == 2
    assert await due(db, ends[12], archive) == Pruned(1, 1, 1, 10, 10)
    assert await prune(db, ends[12], KEYS, archive=archive) == Pruned(1, 1, 1, 10, 10)
    assert len(archive.store.names()) == 1
    report = await verify(db, KEYS, archive=archive.following())
    assert (report.problem, report.pruned, report.archived, report.verified) == (None, 10, 9, 18)
    assert await prune(db, TOMORROW, KEYS, archive=archive) == Pruned(2, 3, 12, 30, 18)
    assert archive.store.names() == []
    report = await verify(db, KEYS, archive=archive.following())
    assert (report.problem, report.pruned, report.verified) == (None, 28, 0)


async def test_files_that_no_catalog_names_are_removed_and_those_of_others_stay(
    db: Engine, archive: Archive, tmp_path: Path
) -> None:
    await seal_three_times(db)
    assert await archive_step(archive, KEYS, TOMORROW)
    [name] = archive.store.names()
    folder = tmp_path / "archive"
    content = (folder / name).read_bytes()
    orphan = name.replace(name[-16:-8], "00000000")
    of_another_trail = f"seals-00000001-00000003-{'0' * 16}-00000000.parquet"
    for each in (orphan, of_another_trail, "unknown.parquet"):
        (folder / each).write_bytes(content)
    old, new = folder / "x.parquet#1", folder / "x.parquet#2"
    for half in (old, new):
        half.write_bytes(b"half")
    os.utime(old, (0, 0))
    assert await archive_step(archive, KEYS, TOMORROW) is None
    left = {path.name for path in folder.iterdir()}
    assert left == {name, of_another_trail, "unknown.parquet", new.name}


async def test_what_is_not_as_it_was_sealed_stays(db: Engine, archive: Archive) -> None:
    await seal_three_times(db)
    await tamper(db, "UPDATE audit_logs SET actor = 'x' WHERE id = 23")
    with pytest.raises(NotAsSealed, match="under seal 3 are not what was sealed"):
        await archive_step(archive, KEYS, TOMORROW)
    with pytest.raises(OtherKey):
        await archive_step(archive, SealKeys("another key of thirty-two characters"), TOMORROW)
    assert archive.store.names() == []
    assert await AuditLog.count() == 28
    assert await db.fetchval("SELECT count(*) FROM audit_archives") == 0


async def test_a_file_that_differs_from_what_was_written_is_not_believed(
    db: Engine, archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    await seal_three_times(db)

    def put(name: str, file: Path) -> None:
        content = bytearray(file.read_bytes())
        content[len(content) // 3] ^= 1
        Path(archive.store.path(name)).parent.mkdir(exist_ok=True)
        Path(archive.store.path(name)).write_bytes(content)

    monkeypatch.setattr(archive.store, "put", put)
    with pytest.raises((NotAsSealed, ArchiveUnreadable)):
        await archive_step(archive, KEYS, TOMORROW)
    assert await AuditLog.count() == 28


async def test_two_at_once_move_once(db: Engine, archive: Archive) -> None:
    await seal_three_times(db)
    steps = [archive_step(archive, KEYS, TOMORROW) for _ in range(3)]
    done = await asyncio.gather(*map(asyncio.create_task, steps), return_exceptions=True)
    assert [type(each) for each in done].count(Moved) == 1
    assert all(each is None or isinstance(each, Moved | AlreadyArchiving) for each in done)
    assert await db.fetchval("SELECT count(*) FROM audit_removals") == 1


async def damaged(archive: Archive, how: str) -> None:
    names = sorted(archive.store.names())
    first, second = (Path(archive.store.path(name)) for name in names[:2])
    if how == "altered":
        sql = (
            f"COPY (SELECT * REPLACE ('x' AS actor) FROM '{first}') TO '{first}x' (FORMAT parquet)"
        )
        duckdb.execute(sql)
        Path(f"{first}x").rename(first)
    elif how == "cut":
        first.write_bytes(first.read_bytes()[:-100])
    elif how == "empty":
        first.write_bytes(b"")
    elif how == "exchanged":
        first.write_bytes(second.read_bytes())
    elif how == "removed":
        first.unlink()
    elif how == "inserted":
        sql = f"COPY (FROM '{first}' UNION ALL FROM '{second}') TO '{first}x' (FORMAT parquet)"
        duckdb.execute(sql)
        Path(f"{first}x").rename(first)


@pytest.mark.parametrize(
    ("how", "kind"),
    [
        ("altered", "archive_altered"),
        ("cut", "archive_altered"),
        ("empty", "archive_altered"),
        ("exchanged", "archive_altered"),
        ("removed", "archive_missing"),
        ("inserted", None),  # what belongs to another seal is not read
    ],
)
async def test_a_damaged_file_is_named(
    db: Engine, archive: Archive, how: str, kind: str | None
) -> None:
    await seal_three_times(db)
    ends = [row["created_at"] for row in await AuditLog.select().order_by(AuditLog.id)]
    for at in (ends[12], ends[21]):
        assert await archive_step(archive, KEYS, at)
    await damaged(archive, how)
    problem = (await verify(db, KEYS, archive=archive.following())).problem
    assert (problem and (problem.kind, problem.seal)) == (kind and (kind, 1))
    if kind is not None:
        with pytest.raises(NotAsSealed):
            await prune(db, TOMORROW, KEYS, archive=archive)


async def test_archived_rows_without_an_archive(db: Engine, archive: Archive) -> None:
    await seal_three_times(db)
    await archive_step(archive, KEYS, TOMORROW)
    with pytest.raises(NoArchive):
        await verify(db, KEYS)
    with pytest.raises(NoArchive):
        _ = [chunk async for chunk in Export(db, Filters()).chunks()]


async def test_an_archive_that_cannot_be_reached_leaves_the_rows_of_the_table(
    db: Engine, archive: Archive, tmp_path: Path
) -> None:
    await seal_three_times(db)
    ends = [row["created_at"] for row in await AuditLog.select().order_by(AuditLog.id)]
    await archive_step(archive, KEYS, ends[21])
    (tmp_path / "archive").rename(tmp_path / "elsewhere")
    newest = await page(db, Filters(), size=5, archive=archive)
    assert [row["id"] for row in newest.rows][1:] == [30, 29, 28, 27]
    found = await page(db, Filters(resource="users"), archive=archive)
    assert ([row["id"] for row in found.rows], found.next) == ([*range(30, 21, -1)], None)
    assert found.unreached.endswith("is no folder")
    with pytest.raises(ArchiveUnavailable):
        await page(db, Filters(actor="person3@example.com"), archive=archive)
    (tmp_path / "archive").mkdir()
    with pytest.raises(ArchiveMissing):
        await page(db, Filters(actor="person3@example.com"), archive=archive)
