"""A migration is killed in the middle; ten at once: tests/home/database/test_migrations.py."""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
import sys
from pathlib import Path

import asyncpg
import pytest

from tests.conftest import ROOT, run_piccolo

pytestmark = pytest.mark.any_version
TABLES = "SELECT count(*) FROM pg_tables WHERE schemaname = 'public' AND tablename <> 'migration'"
MIGRATING = """
    SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND xact_start IS NOT NULL AND pid <> pg_backend_pid()
"""
EMPTY = "DROP SCHEMA public CASCADE; CREATE SCHEMA public"


async def is_migrating(connection: asyncpg.Connection, expected: bool) -> None:
    async with asyncio.timeout(20):
        while bool(await connection.fetchval(MIGRATING)) != expected:
            await asyncio.sleep(0.005)


@pytest.mark.parametrize("kills", [3, pytest.param(20, marks=pytest.mark.long)])
async def test_a_migration_that_is_killed_leaves_all_or_nothing(empty_url: str, kills: int) -> None:
    piccolo = str(Path(sys.executable).parent / "piccolo")
    connection = await asyncpg.connect(empty_url, statement_cache_size=0)
    states = []
    for _ in range(kills):
        await connection.execute(EMPTY)
        process = subprocess.Popen(
            [piccolo, "home", "migrate"],
            cwd=ROOT,
            env={**os.environ, "DATABASE_URL": empty_url},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        await is_migrating(connection, True)
        await asyncio.sleep(random.uniform(0, 0.15))
        process.kill()
        process.wait()
        await is_migrating(connection, False)
        states.append(await connection.fetchval(TABLES))
    done = await asyncio.to_thread(run_piccolo, empty_url, "home", "migrate")
    assert done.returncode == 0, done.stderr
    done = await asyncio.to_thread(run_piccolo, empty_url, "home", "verify")
    assert done.stdout == "the schema is as declared\n"
    assert set(states) <= {0, await connection.fetchval(TABLES)}
    assert 0 in states, "no kill hit the middle"
    await connection.close()
    print(f"R13: {kills} kills, {states.count(0)} of them before the commit")
