"""A PostgreSQL 15 that may be hurt."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator

import asyncpg
import pytest

from home.database.migrations import migrate
from tests.conftest import installed_server, point_at
from tests.faults.pair import stand_by
from tests.postgres import Server

TEMPLATE = "groundwork_template"
_numbers = itertools.count()


@pytest.fixture(scope="session")
async def hurt() -> AsyncIterator[Server]:
    """A server with a migrated template; whoever stops it starts it again."""
    server = installed_server()
    server.start()
    await in_maintenance(server, f"CREATE DATABASE {TEMPLATE}")
    db = point_at(server.url(TEMPLATE))
    await migrate(db)
    await db.close_connection_pool()
    yield server
    server.remove()


@pytest.fixture
async def server(hurt: Server) -> AsyncIterator[Server]:
    """The same with a database of the test's own, known to the tables' engine."""
    hurt.database = f"test_{next(_numbers)}"
    await in_maintenance(hurt, f"CREATE DATABASE {hurt.database} TEMPLATE {TEMPLATE}")
    point_at(hurt.url())
    yield hurt
    await in_maintenance(hurt, f"DROP DATABASE {hurt.database} WITH (FORCE)")


@pytest.fixture
async def pair() -> AsyncIterator[tuple[Server, Server]]:
    """A primary that acknowledges nothing which its standby has not, and that standby."""
    primary = installed_server()
    primary.start()
    await migrate(point_at(primary.url()))
    standby = await stand_by(primary)
    try:
        yield primary, standby
    finally:
        standby.remove()
        primary.remove()


async def in_maintenance(server: Server, sql: str) -> None:
    connection = await asyncpg.connect(server.url("postgres"))
    await connection.execute(sql)
    await connection.close()
