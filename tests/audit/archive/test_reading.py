"""What is read of a trail is the same, whether or where its rows were moved."""

from __future__ import annotations

import pytest

from audit.archive.moving import archive_step
from audit.archive.reading import Archive
from audit.seals import seal
from audit.verify import verify
from home.database.engine import Engine
from tests.audit.archive.trails import INSERT, OLD, everything, moved, nasty
from tests.audit.trails import KEYS, fill

pytestmark = pytest.mark.any_version


async def test_everything_is_as_it_was(db: Engine, archive: Archive) -> None:
    await nasty(db)
    await seal(db, KEYS)
    await fill(db, 1, 20)
    for late in range(5):  # written late: older than rows that were archived
        await db.execute(
            INSERT, "late", "x.update", "big", "1", '{"after": {"t": 1}}', None, "r", False, None,
            OLD.replace(hour=late * 4),
        )  # fmt: skip
    last = await db.fetchval("SELECT max(id) FROM audit_logs")
    before = await everything(db, last)

    assert await archive_step(archive, KEYS, OLD.replace(year=2021))
    assert (await verify(db, KEYS, archive=archive)).problem is None
    assert await db.fetchval("SELECT count(*) FROM audit_archives") == 1
    after = await everything(db, last, archive)
    for was, became in zip(before, after, strict=True):
        assert was == became
    await moved(archive)
    after = await everything(db, last, archive)
    for was, became in zip(before, after, strict=True):
        assert was == became
    assert (await verify(db, KEYS, archive=archive)).problem is None
