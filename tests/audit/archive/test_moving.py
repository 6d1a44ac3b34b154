"""Rows move from the table to a file, and stay what they were."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest

from audit.archive.moving import Moved, archive_step
from audit.archive.reading import Archive
from audit.export import Export
from audit.filters import Filters
from audit.reading import page
from audit.tables import AuditLog
from audit.verify import verify
from home.database.engine import Engine
from tests.audit.trails import KEYS, seal_three_times

pytestmark = pytest.mark.any_version
TOMORROW = datetime.now(UTC) + timedelta(days=1)


async def test_rows_move_and_are_verified_and_read(db: Engine, archive: Archive) -> None:
    await seal_three_times(db)
    whole = await page(db, Filters())
    assert await archive_step(archive, KEYS, TOMORROW) == Moved(1, 3, 1, 30, 28)
    assert await AuditLog.count() == 1  # the record of it
    report = await verify(db, KEYS, archive=archive)
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
