"""R9: the disk is full: changes are refused, reading and health go on, and it recovers."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import asyncpg
import pytest

import piccolo_conf
from home.database.migrations import migrate
from home.tables import User
from tests.conftest import PASSWORD, browser, create_app, enter, in_database, missing, point_at
from tests.postgres import Server

pytestmark = pytest.mark.direct


@pytest.fixture
def small_disk(server: Server) -> Iterator[Path]:
    """A folder of 16 MB, for the server's files."""
    folder = server.folder / "small"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(command, check=False).returncode:
        folder.rmdir()
        missing("the right to mount a tmpfs", "run it as root")
    if server.user:
        shutil.chown(folder, server.user)
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.fixture
async def full_url(server: Server, small_disk: Path) -> AsyncIterator[str]:
    connection = await asyncpg.connect(server.url())
    await connection.execute(f"CREATE TABLESPACE small LOCATION '{small_disk}'")
    await connection.execute("CREATE DATABASE crowded TABLESPACE small")
    url = in_database(server.url(), "crowded")
    await migrate(point_at(url))
    yield url
    await connection.execute("DROP DATABASE crowded WITH (FORCE)")
    await connection.execute("DROP TABLESPACE small")
    await connection.close()


async def fill(url: str) -> None:
    """Until not even a small row has room."""
    connection = await asyncpg.connect(url)
    with pytest.raises(asyncpg.DiskFullError):
        await connection.execute("CREATE TABLE ballast (x text)")
        for size in (1_000_000, 100_000, 4_000):
            while True:
                try:
                    await connection.execute(
                        "INSERT INTO ballast SELECT repeat(md5(random()::text), 60)"
                        " FROM generate_series(1, $1::int / 2000)",
                        size,
                    )
                except asyncpg.DiskFullError:
                    if size == 4_000:
                        raise
                    break
    await connection.close()


async def test_changes_are_refused_and_reading_goes_on(full_url: str) -> None:
    await User.create_user("mel@example.com", PASSWORD, is_approved=True)
    app = create_app(piccolo_conf.SETTINGS, piccolo_conf.DB)
    async with app.router.lifespan_context(app), browser(app) as client:
        await enter(client, "mel@example.com")
        assert (await client.put("/api/me/preferences", json={"n": "x" * 60_000})).is_success
        await piccolo_conf.DB.run_ddl("UPDATE sessions SET last_seen_at = NULL")
        await fill(full_url)
        refused = 0
        for number in range(300):
            answer = await client.put("/api/me/preferences", json={"n": f"{number}" * 15_000})
            assert answer.status_code in (200, 503), answer.text
            refused += answer.status_code == 503
        assert answer.headers["retry-after"]
        assert refused > 200
        assert (await client.get("/api/me/preferences")).status_code == 200
        assert (await client.get("/api/me")).status_code == 200
        health = (await client.get("/api/health")).json()
        assert health["database"]["connected"] is True
        await piccolo_conf.DB.run_ddl("DROP TABLE ballast")
        async with asyncio.timeout(5):
            while not (await client.put("/api/me/preferences", json={"n": 1})).is_success:
                await asyncio.sleep(0.05)
        print(f"R9: {refused} of 300 changes refused with 503, reading and health alive")
