"""The pages of the trail and its API go on in the archive."""

from __future__ import annotations

from pathlib import Path

import pytest

from audit.archive.moving import archive_step
from audit.archive.reading import Archive
from audit.tables import AuditLog
from home.database.engine import Engine
from home.tables import User
from tests.audit.archive.trails import TOMORROW
from tests.audit.trails import KEYS, seal_three_times
from tests.conftest import client_with, enter

pytestmark = pytest.mark.any_version


async def test_pages_and_api_show_archived_rows(
    db: Engine, administrator: User, tmp_path: Path
) -> None:
    await seal_three_times(db)
    [first] = await AuditLog.select(AuditLog.id).where(AuditLog.resource_id == "3")
    archive = Archive(db, str(tmp_path))
    assert await archive_step(archive, KEYS, TOMORROW)
    html = {"accept": "text/html"}
    async with client_with(audit_archive=str(tmp_path)) as client:
        await enter(client, administrator.email)
        page = (await client.get("/trail?table=users&record=3", headers=html)).text
        assert "archived" in page
        assert f"/trail/{first['id']}" in page
        assert "from the archive" in (await client.get(f"/trail/{first['id']}")).text
        assert (await client.get("/trail/of/users/3")).status_code == 200
        assert "archived" in (await client.get("/trail/seals")).text
        answer = (await client.get("/api/trail?person=person3@example.com")).json()
        assert [row["id"] for row in answer["rows"]] == [first["id"]]
        one = (await client.get(f"/api/trail/{first['id']}")).json()
        assert one["details"] == {"before": {"n": 2}, "after": {"n": 3}}
        exported = (await client.get("/trail/export?format=csv&table=users&record=3")).text
        assert "person3@example.com" in exported


async def test_an_archive_that_is_away_leaves_the_pages(
    db: Engine, administrator: User, tmp_path: Path
) -> None:
    await seal_three_times(db)
    [first] = await AuditLog.select(AuditLog.id).where(AuditLog.resource_id == "3")
    archive = Archive(db, str(tmp_path / "archive"))
    assert await archive_step(archive, KEYS, TOMORROW)
    (tmp_path / "archive").rename(tmp_path / "away")
    async with client_with(audit_archive=str(tmp_path / "archive")) as client:
        await enter(client, administrator.email)
        page = await client.get("/trail", headers={"accept": "text/html"})
        assert page.status_code == 200
        assert "Older rows are in the archive, which cannot be read now" in page.text
        assert (await client.get("/trail?record=3&table=users")).status_code == 503
        assert (await client.get(f"/trail/{first['id']}")).status_code == 503
        assert (await client.get("/api/trail")).status_code == 503
