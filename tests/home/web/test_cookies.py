"""The session's cookie where browsers speak https."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from home.tables import User
from tests.conftest import PASSWORD, client_with, sign_in

pytestmark = pytest.mark.any_version

ADA = {"email": "ada@example.com", "password": PASSWORD}
PROXIES = (ip_network("10.0.0.0/8"),)


async def test_over_https_the_api_hands_out_a_host_only_cookie(
    url: str, administrator: User
) -> None:
    async with client_with(base_url="https://test") as client:
        cookie = (await client.post("/api/sign-in", json=ADA)).headers["set-cookie"]
        assert cookie.startswith("__Host-id=")
        for attribute in ("; Secure", "; HttpOnly", "; Path=/", "; SameSite=lax"):
            assert attribute in cookie
        assert "domain" not in cookie.lower()
        assert (await client.get("/api/me")).json()["email"] == ADA["email"]


async def test_so_does_the_back_office(url: str, administrator: User) -> None:
    async with client_with(base_url="https://test") as client:
        answer = await sign_in(client, ADA["email"])
        assert answer.status_code == 200
        assert set(client.cookies) == {"__Host-id", "csrftoken"}
        assert all("; secure" in c.lower() for c in answer.headers.get_list("set-cookie"))
        assert (await client.get("/admin/api/tables/")).status_code == 200
        assert (await client.post("/admin/public/logout/")).status_code == 200
        assert "__Host-id" not in client.cookies
        assert (await client.get("/admin/api/tables/")).status_code == 401


async def test_a_cookie_that_another_host_could_have_set_is_not_believed(
    url: str, administrator: User
) -> None:
    async with client_with(base_url="https://test") as client:
        await client.post("/api/sign-in", json=ADA)
        token = client.cookies["__Host-id"]
        client.cookies.clear()
        for path in ("/api/me", "/admin/api/tables/"):
            answer = await client.get(path, headers={"cookie": f"id={token}"})
            assert answer.status_code == 401


@pytest.mark.parametrize(("address", "name"), [("10.0.0.1", "__Host-id"), ("203.0.113.9", "id")])
async def test_only_our_proxies_say_what_browsers_speak(
    url: str, administrator: User, address: str, name: str
) -> None:
    async with client_with(address, trusted_proxies=PROXIES) as client:
        client.headers["x-forwarded-proto"] = "https"
        cookie = (await client.post("/api/sign-in", json=ADA)).headers["set-cookie"]
        assert cookie.startswith(f"{name}=")


async def test_in_production_cookies_are_for_https_whatever_the_proxy_says(
    url: str, administrator: User
) -> None:
    async with client_with(environment="production") as client:
        cookie = (await client.post("/api/sign-in", json=ADA)).headers["set-cookie"]
        assert cookie.startswith("__Host-id=")
        assert "; Secure" in cookie
