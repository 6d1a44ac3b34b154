"""Who did it, from where, under which request: on every change through the web."""

from __future__ import annotations

from ipaddress import ip_network

import httpx
import pytest

from audit.tables import AuditLog
from home.tables import User
from home.web.request_context import client_address
from tests.conftest import sign_in

pytestmark = pytest.mark.any_version

PROXIES = [ip_network("10.0.0.0/8"), ip_network("fd00::/8")]


async def test_a_change_in_the_admin_is_attributed(
    client: httpx.AsyncClient, administrator: User, member: User
) -> None:
    await sign_in(client, "ada@example.com")
    answer = await client.patch(
        f"/admin/api/tables/users/{member.id}/",
        json={"display_name": "Mel"},
        headers={"x-request-id": "from-the-proxy.7", "x-forwarded-for": "203.0.113.9"},
    )
    assert answer.status_code == 200, answer.text
    assert answer.headers["x-request-id"] == "from-the-proxy.7"
    rows = await AuditLog.select().where(AuditLog.request_id == "from-the-proxy.7")
    assert [row["action"] for row in rows] == ["users.update"]
    assert rows[0]["actor"] == "ada@example.com"
    assert rows[0]["user_id"] == administrator.id
    assert rows[0]["ip_address"] == "127.0.0.1"
    assert rows[0]["is_admin_action"] is True


async def test_signing_in_is_the_persons_own_doing(
    client: httpx.AsyncClient, administrator: User
) -> None:
    await sign_in(client, "ada@example.com")
    rows = await AuditLog.select().where(AuditLog.action == "sessions.insert")
    assert [(row["actor"], row["user_id"]) for row in rows] == [
        ("ada@example.com", administrator.id)
    ]


@pytest.mark.parametrize("given", ["", "a" * 101, "new\nline", "<script>", "ü"])
async def test_a_request_id_that_is_not_sane_is_replaced(
    client: httpx.AsyncClient, given: str
) -> None:
    answer = await client.get("/", headers={b"x-request-id": given.encode()})
    assert len(answer.headers["x-request-id"]) == 16


@pytest.mark.parametrize(
    ("client", "forwarded", "expected"),
    [
        ("203.0.113.9", "198.51.100.1", "203.0.113.9"),
        ("10.0.0.1", "198.51.100.1", "198.51.100.1"),
        ("10.0.0.1", "6.6.6.6, 198.51.100.1, 10.0.0.2", "198.51.100.1"),
        ("10.0.0.1", "198.51.100.1, nonsense", "10.0.0.1"),
        ("10.0.0.1", "", "10.0.0.1"),
        ("fd00::1", "2001:db8::7", "2001:db8::7"),
        (None, "198.51.100.1", None),
    ],
)
def test_addresses_are_believed_behind_our_proxies_only(
    client: str | None, forwarded: str, expected: str | None
) -> None:
    headers = [(b"x-forwarded-for", forwarded.encode())] if forwarded else []
    scope = {"client": (client, 4711) if client else None, "headers": headers}
    assert client_address(scope, PROXIES) == expected
