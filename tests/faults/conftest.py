"""A PostgreSQL 15 that may be hurt."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from home.database.migrations import migrate
from tests.conftest import installed_server, point_at
from tests.postgres import Server


@pytest.fixture(scope="session")
async def hurt() -> AsyncIterator[Server]:
    """A migrated server; whoever stops it starts it again."""
    server = installed_server()
    server.start()
    await migrate(point_at(server.url()))
    yield server
    server.remove()


@pytest.fixture
def server(hurt: Server) -> Server:
    """The same, known to the tables' engine. People of earlier tests are still there."""
    point_at(hurt.url())
    return hurt
