"""What the server does by itself about clients that are gone, and about those who wait too long."""

from __future__ import annotations

import asyncio

import pytest
from piccolo.apps.migrations.auto.migration_manager import MigrationManager

from home.database import migrations as migrating
from home.database.engine import Engine

OVER_TCP = {
    "tcp_keepalives_idle": "5",
    "tcp_keepalives_interval": "2",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "10000",
}


@pytest.mark.direct
async def test_the_server_ends_what_a_vanished_client_left(db: Engine) -> None:
    async with db.connection() as connection:
        assert await connection.fetchval("SHOW idle_in_transaction_session_timeout") == "10s"
        if await connection.fetchval("SELECT inet_server_addr()") is not None:
            assert {name: await connection.fetchval(f"SHOW {name}") for name in OVER_TCP} == (
                OVER_TCP
            )


async def test_a_command_may_take_its_time_within_a_transaction(db: Engine) -> None:
    connection = await db.get_new_connection()
    assert await connection.fetchval("SHOW idle_in_transaction_session_timeout") == "0"
    await connection.close()


async def test_a_migration_does_not_make_everybody_wait_behind_it(
    db: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def change() -> None:
        await db.run_ddl("ALTER TABLE users ADD COLUMN late integer")

    async def run_forwards(app: str) -> None:
        manager = MigrationManager(migration_id="x", app_name="home")
        manager.add_raw(change)
        await manager.run()

    monkeypatch.setattr("piccolo.apps.migrations.commands.forwards.run_forwards", run_forwards)
    monkeypatch.setattr(migrating, "PATIENCE", "200ms")
    in_use, done = asyncio.Event(), asyncio.Event()

    async def read_slowly() -> None:
        async with db.transaction():
            await db.run_ddl("SELECT * FROM users")
            in_use.set()
            await done.wait()

    reader = asyncio.create_task(read_slowly())
    await in_use.wait()
    with pytest.raises(migrating.MigrationFailed, match=r"was in use for more than .* try again"):
        await migrating.migrate(db)
    done.set()
    await reader
