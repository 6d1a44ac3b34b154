"""The same in a bucket."""

from __future__ import annotations

import pytest

from audit.archive.moving import archive_step
from audit.archive.reading import Archive
from audit.archive.store import ArchiveUnavailable
from audit.filters import Filters
from audit.prune import prune
from audit.reading import page
from audit.verify import verify
from home.database.engine import Engine
from tests.audit.archive.trails import TOMORROW, everything, moved, nasty
from tests.audit.trails import KEYS, fill, seal_three_times

pytestmark = pytest.mark.any_version


async def test_everything_is_as_it_was(db: Engine, s3_archive: Archive) -> None:
    await nasty(db)
    await fill(db, 1, 20)
    last = await db.fetchval("SELECT max(id) FROM audit_logs")
    before = await everything(db, last)
    await moved(s3_archive)
    assert await everything(db, last, s3_archive) == before
    assert (await verify(db, KEYS, archive=s3_archive)).problem is None
    await prune(db, TOMORROW, KEYS, archive=s3_archive)
    assert s3_archive.store.names() == []


async def test_a_file_that_is_not_there_is_named(db: Engine, s3_archive: Archive) -> None:
    await seal_three_times(db)
    assert await archive_step(s3_archive, KEYS, TOMORROW)
    [name] = s3_archive.store.names()
    s3_archive.store.delete(name)
    problem = (await verify(db, KEYS, archive=s3_archive)).problem
    assert problem is not None
    assert (problem.kind, problem.message) == ("archive_missing", f"the archive has no file {name}")


async def test_a_server_that_does_not_answer(
    db: Engine, s3_archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    await seal_three_times(db)
    assert await archive_step(s3_archive, KEYS, TOMORROW)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    away = Archive(db, s3_archive.store.root)
    with pytest.raises(ArchiveUnavailable):
        await page(db, Filters(resource="users"), archive=away)
    with pytest.raises(ArchiveUnavailable):
        await verify(db, KEYS, archive=away)
    assert (await page(db, Filters(), size=1, archive=away)).rows
