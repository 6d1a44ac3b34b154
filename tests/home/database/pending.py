"""Migrations that are pending for a test, of statements: known to nobody else."""

from __future__ import annotations

import contextlib
from types import SimpleNamespace
from typing import Any

import pytest

from audit.database import Connection
from audit.ddl import AppMigration, database
from home.database import migrations

# More than rehearsal.SMALL, so that what reads or writes all of it is not taken for harmless.
READINGS = """
    CREATE TABLE sensors (id serial PRIMARY KEY);
    INSERT INTO sensors SELECT FROM generate_series(1, 3);
    CREATE TABLE readings (
        id serial PRIMARY KEY, sensor_id integer NOT NULL, value integer NOT NULL,
        note varchar(200), checked integer CONSTRAINT checked_is_there CHECK (checked IS NOT NULL));
    INSERT INTO readings (sensor_id, value, note, checked)
    SELECT 1 + n % 3, n, repeat('x', 150), n FROM generate_series(1, 8000) AS n;
    CREATE INDEX readings_value ON readings (value)
"""


class Pending:
    """What `migrate` finds, in this order."""

    def __init__(self) -> None:
        self.modules: list[tuple[str, str, Any]] = []

    def add(self, *statements: str, concurrent: bool = False, swallow: bool = False) -> str:
        """Add a migration, and return its id.

        Args:
            swallow: it goes on whatever is raised.
        """
        id_ = f"home_test_{len(self.modules)}"

        async def run() -> None:
            async with database().connection() as connection:
                for each in statements:
                    with contextlib.suppress(*([Exception] if swallow else [])):
                        await connection.execute(each)

        async def forwards() -> AppMigration:
            manager = AppMigration(migration_id=id_, app_name="home")
            if concurrent:
                manager.add_concurrent(*statements)
            else:
                manager.add_raw(run)
            return manager

        self.modules.append(("home", id_, SimpleNamespace(forwards=forwards)))
        return id_

    async def find(self, connection: Connection) -> list[tuple[str, str, Any]]:
        applied = await migrations.applied_migrations(connection)
        return [each for each in self.modules if each[1] not in applied]


@pytest.fixture
def pending(monkeypatch: pytest.MonkeyPatch) -> Pending:
    """Migrations of the test's own."""
    found = Pending()
    monkeypatch.setattr(migrations, "_pending_modules", found.find)
    return found
