"""What is refused at the door, and what every answer says to the browser."""

from __future__ import annotations

from collections.abc import AsyncIterator
from ipaddress import ip_network

import httpx
import pytest

from home.tables import User
from tests.conftest import PASSWORD, client_with, sign_in

pytestmark = pytest.mark.any_version

MEL = {"email": "mel@example.com", "password": PASSWORD}


@pytest.mark.parametrize("path", ["/", "/admin/", "/api/me", "/nowhere", "/favicon.ico"])
async def test_every_answer_has_security_headers(client: httpx.AsyncClient, path: str) -> None:
    answer = await client.get(path)
    policy = set(answer.headers["content-security-policy"].split("; "))
    assert policy >= {
        "default-src 'self'",
        "script-src 'self'",
        "object-src 'none'",
        "base-uri 'none'",
        "form-action 'self'",
        "frame-ancestors 'none'",
    }
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["x-frame-options"] == "DENY"
    assert answer.headers["referrer-policy"] == "same-origin"
    assert answer.headers["cross-origin-opener-policy"] == "same-origin"
    assert "strict-transport-security" not in answer.headers


async def test_in_production_browsers_are_told_to_come_by_https(url: str) -> None:
    async with client_with(environment="production") as client:
        answer = await client.get("/sign-in")
        assert answer.headers["strict-transport-security"] == "max-age=31536000"


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://elsewhere.example"},
        {"origin": "null"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site", "origin": "http://test"},
    ],
)
async def test_other_sites_cannot_act(
    client: httpx.AsyncClient, member: User, headers: dict[str, str]
) -> None:
    answer = await client.post("/api/sign-in", json=MEL, headers=headers)
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "forbidden")


@pytest.mark.parametrize(
    "headers", [{}, {"origin": "http://test"}, {"sec-fetch-site": "same-origin"}]
)
async def test_this_site_and_programs_can(
    client: httpx.AsyncClient, member: User, headers: dict[str, str]
) -> None:
    assert (await client.post("/api/sign-in", json=MEL, headers=headers)).status_code == 200


async def chunks(size: int) -> AsyncIterator[bytes]:
    for _ in range(size // 1000):
        yield b"x" * 1000


@pytest.mark.parametrize("path", ["/api/sign-in", "/admin/public/login/"])
async def test_a_body_has_an_end(client: httpx.AsyncClient, administrator: User, path: str) -> None:
    await sign_in(client, "ada@example.com")
    assert (await client.post(path, content=b"x" * 1_100_000)).status_code == 413
    answer = await client.post(path, content=chunks(1_100_000))
    assert answer.status_code == 413


@pytest.mark.parametrize(
    ("address", "status"), [("10.1.2.3", 401), ("203.0.113.9", 403), ("nonsense", 403)]
)
async def test_networks(url: str, address: str, status: int) -> None:
    allowed = (ip_network("10.0.0.0/8"),)
    async with client_with(address, allowed_networks=allowed) as client:
        assert (await client.get("/api/me")).status_code == status
        assert (await client.get("/health/live")).status_code == 200


@pytest.mark.any_version
@pytest.mark.parametrize(
    ("host", "status"),
    [("Tool.example.com:8443", 401), ("evil.example.net", 400), ("", 400), ("[::1]:8000", 401)],
)
async def test_hosts(url: str, host: str, status: int) -> None:
    async with client_with(allowed_hosts=("tool.example.com", "[::1]")) as client:
        answer = await client.get("/api/me", headers={"host": host})
        assert answer.status_code == status
        assert (await client.get("/health", headers={"host": "10.0.0.7"})).status_code == 200
