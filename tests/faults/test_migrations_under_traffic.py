"""Migrations run while people write: no request fails, and nothing that was stored is lost."""

from __future__ import annotations

import asyncio
import gzip
import json
import random
import time
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest
from pydantic import SecretStr

from audit.context import Actor, acting_as
from home.config.settings import Settings
from home.database.engine import Engine
from tests import releases
from tests.audit.trails import FILL
from tests.conftest import run_piccolo
from tests.faults.conftest import in_maintenance
from tests.home.database.moving import Moving
from tests.postgres import Server

DUMP = max(Path(releases.__file__).parent.glob("*.sql.gz"))
A_SECOND = 500  # writes
WRITERS = 10
OWNER = "CREATE ROLE traffic SUPERUSER LOGIN PASSWORD 'of-a-test-only'"
PEOPLE = """
    INSERT INTO users (email)
    SELECT 'person' || n || '@example.com' FROM generate_series(1, 100) AS n
"""
# What the release's code writes and reads; the last one is not of one shape for ever.
WRITE = """
    INSERT INTO user_preferences (user_id, preferences) VALUES ($1, $2)
    ON CONFLICT (user_id) DO UPDATE SET preferences = excluded.preferences RETURNING *
"""
READ = "SELECT * FROM users WHERE id = $1"
# One of each kind that blocks nobody for long.
KINDS = [
    ("column", "ALTER TABLE users ADD shoe_size integer"),
    ("another", "ALTER TABLE user_preferences ADD a text"),
    ("default", "ALTER TABLE user_preferences ADD kept boolean NOT NULL DEFAULT true"),
    ("widened", "ALTER TABLE user_preferences ALTER a TYPE varchar"),
    ("table", "CREATE TABLE shoes (id serial PRIMARY KEY, user_id integer REFERENCES users (id))"),
    (
        "check",
        "ALTER TABLE audit_logs ADD CONSTRAINT has_action CHECK (action IS NOT NULL) NOT VALID",
    ),
    ("validated", "ALTER TABLE audit_logs VALIDATE CONSTRAINT has_action"),
    ("index", "CREATE INDEX CONCURRENTLY of_a_day ON audit_logs (action, created_at)"),
    ("no_null", "ALTER TABLE audit_logs ALTER action SET NOT NULL"),
    ("no_index", "DROP INDEX CONCURRENTLY IF EXISTS of_a_day"),
    ("function", "CREATE FUNCTION of_nothing() RETURNS int LANGUAGE sql AS 'SELECT 1'"),
]
CONCURRENT = {"validated", "index", "no_index"}


class Traffic:
    """Writes and reads at a steady pace, each by somebody."""

    def __init__(self, engine: Engine, people: list[int]) -> None:
        self.engine = engine
        self.people = people
        self.stored: list[str] = []
        self.failed: list[BaseException] = []
        self.slowest = 0.0

    async def write(self, number: int) -> None:
        """Write until cancelled."""
        due = time.monotonic()
        with acting_as(Actor(f"person{number}@example.com")):
            while True:
                value = f"{number} {len(self.stored)} {time.monotonic_ns()}"
                started = time.monotonic()
                try:
                    person = random.choice(self.people)
                    await self.engine.fetch(WRITE, person, json.dumps({"value": value}))
                    self.slowest = max(self.slowest, time.monotonic() - started)
                    self.stored.append(value)
                    await self.engine.fetch(READ, person)
                except Exception as error:
                    self.failed.append(error)
                due += WRITERS / A_SECOND
                await asyncio.sleep(max(0.0, due - time.monotonic()))


@pytest.fixture
async def of_the_release(hurt: Server) -> AsyncIterator[str]:
    """The URL of a database of the last release, with rows."""
    await in_maintenance(hurt, "CREATE DATABASE of_the_release")
    connection = await asyncpg.connect(hurt.url("of_the_release"))
    await connection.execute(gzip.decompress(DUMP.read_bytes()).decode() + ";" + OWNER)
    await connection.close()
    connection = await asyncpg.connect(hurt.url("of_the_release"))
    await connection.execute(FILL, 1_000, 100_000)
    await connection.execute(PEOPLE)
    await connection.close()
    yield hurt.url("of_the_release").replace("postgres:postgres", "traffic:of-a-test-only")
    await in_maintenance(hurt, "DROP DATABASE of_the_release WITH (FORCE)")
    await in_maintenance(hurt, "DROP ROLE traffic")


@pytest.mark.long
async def test_nobody_notices_the_migrations(of_the_release: str, tmp_path: Path) -> None:
    moving = Moving(tmp_path)
    for name, sql in KINDS:
        moving.add(name, sql, concurrent=name in CONCURRENT)
    env = {**moving.env, "ENVIRONMENT": "production"}
    engine = Engine(Settings(database_url=SecretStr(of_the_release)))
    await engine.start_connection_pool()
    people = [row["id"] for row in await engine.fetch("SELECT id FROM users")]
    traffic = Traffic(engine, people)
    started = time.monotonic()
    writers = [asyncio.create_task(traffic.write(number)) for number in range(WRITERS)]
    await asyncio.sleep(2)
    done = await asyncio.to_thread(run_piccolo, of_the_release, "home", "migrate", **env)
    await asyncio.sleep(1)
    for writer in writers:
        writer.cancel()
    await asyncio.gather(*writers, return_exceptions=True)
    seconds = time.monotonic() - started
    recorded = await engine.fetch(
        "SELECT details -> 'after' -> 'preferences' AS preferences FROM audit_logs"
        " WHERE resource = 'user_preferences'"
    )
    await engine.close_connection_pool()
    assert done.returncode == 0, done.stderr
    assert {f"applied {id_}" for id_ in moving.ids} <= set(done.stdout.splitlines())
    assert traffic.failed == []
    values = {json.loads(row["preferences"]).get("value") for row in recorded}
    assert set(traffic.stored) <= values, "a change was lost"
    print(
        f"R21: {len(done.stdout.splitlines())} migrations, {len(traffic.stored)} writes,"
        f" {len(traffic.stored) / seconds:.0f} a second, slowest {traffic.slowest * 1000:.0f} ms"
    )
