"""An installation of each release migrates forwards with its data."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path

import asyncpg
import pytest

from audit.tables import AuditLog
from home.database.engine import Engine
from tests import releases
from tests.audit.trails import KEY
from tests.conftest import (
    ROOT,
    Place,
    browser,
    create_app,
    enter,
    in_database,
    point_at,
    run_piccolo,
)

pytestmark = pytest.mark.direct
DUMPS = sorted(Path(releases.__file__).parent.glob("*.sql.gz"))


@pytest.fixture(params=DUMPS, ids=lambda path: path.name.removesuffix(".sql.gz"))
async def upgraded(request: pytest.FixtureRequest, empty_url: str, place: Place) -> str:
    """The URL of a database that was restored and migrated."""
    name = empty_url.partition("?")[0].rpartition("/")[2]
    connection = await asyncpg.connect(in_database(place.direct, name))
    await connection.execute(gzip.decompress(request.param.read_bytes()).decode())
    await connection.close()
    done = run_piccolo(empty_url, "home", "migrate")
    assert done.returncode == 0, done.stderr
    return empty_url


async def test_it_migrates_forwards_with_its_data(upgraded: str) -> None:
    done = run_piccolo(upgraded, "home", "verify")
    assert (done.stdout, done.returncode) == ("the schema is as declared\n", 0), done.stderr
    done = run_piccolo(upgraded, "audit", "verify", "--json", AUDIT_SEAL_KEY=KEY)
    found = json.loads(done.stdout)
    assert (found["intact"], found["pruned"] > 0, found["erased"] > 0) == (True, True, True)
    assert run_piccolo(upgraded, "audit", "seal", AUDIT_SEAL_KEY=KEY).returncode == 0
    done = run_piccolo(upgraded, "audit", "verify", AUDIT_SEAL_KEY=KEY)
    assert done.returncode == 0, done.stdout


async def test_people_sign_in_and_their_things_are_there(upgraded: str) -> None:
    db: Engine = point_at(upgraded)
    app = create_app()
    async with app.router.lifespan_context(app), browser(app) as client:
        await enter(client, "mel@example.com")
        me = (await client.get("/api/me")).json()
        assert (me["email"], me["display_name"]) == ("mel@example.com", "Mel")
        assert (await client.get("/api/me/preferences")).json() == {"dark": True}
        await enter(client, "ada@example.com")
        assert (await client.get("/trail")).status_code == 200
        assert "crm" in (await client.get("/sync")).text
        assert await AuditLog.count().where(AuditLog.actor.like("eve@%")) == 0
        assert await db.fetchval("SELECT count(*) FROM audit_removals") == 2


def test_there_is_one_of_each_release() -> None:
    lines = (ROOT / "CHANGELOG.md").read_text().splitlines()
    released = sorted(line.split()[1] for line in lines if re.match(r"## \d", line))
    assert [path.name.removesuffix(".sql.gz") for path in DUMPS] == released
