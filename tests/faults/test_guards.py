"""What the server does by itself about clients that are gone, and about those who wait too long."""

from __future__ import annotations

import pytest

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
