"""The session's cookie where browsers speak https."""

from __future__ import annotations

from ipaddress import ip_network
from typing import Any

import pytest

from home.accounts.sessions import RequestInfo, request_info
from home.backoffice.cookies import AdminCookies
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


@pytest.mark.parametrize(
    "cookie",
    [
        "id\xa0={token}", "id ={token}", "id\t={token}", " id={token}", "\xa0id={token}",
        '__Host-id="{token}"', "__Host-id\xa0={token}", "__Host-id ={token}",
        "a=b;\xa0__Host-id={token}", "a=b;\x85__Host-id={token}", "a=b;\x1c__Host-id={token}",
        "__Host-id={token}; __Host-id=", "__host-id={token}", "__Host-id={token}\xa0",
        "__Host-id=x; id={token}", "a=b,__Host-id={token}",
    ],
)  # fmt: skip
async def test_nor_is_one_that_only_looks_like_ours(
    url: str, administrator: User, cookie: str
) -> None:
    async with client_with(base_url="https://test") as client:
        await client.post("/api/sign-in", json=ADA)
        token = client.cookies["__Host-id"]
        client.cookies.clear()
        sent = {b"cookie": cookie.format(token=token).encode("latin-1")}
        for path in ("/api/me", "/admin/api/tables/"):
            assert (await client.get(path, headers=sent)).status_code == 401, path


async def test_piccolo_admin_is_given_what_was_understood_and_nothing_else() -> None:
    seen: list[tuple[bytes, bytes]] = []

    async def admin(scope: Any, receive: Any, send: Any) -> None:
        seen.extend(scope["headers"])

    for is_secure in (True, False):
        seen.clear()
        request_info.set(RequestInfo("", "our-token", is_secure))
        sent = "a=b; id=x; __Host-id=y; csrftoken=c-1; position=1f; csrftoken\xa0=d; =e; id"
        headers = [(b"host", b"test"), (b"cookie", sent.encode("latin-1")), (b"cookie", b"id=z")]
        await AdminCookies(admin)({"headers": headers}, None, None)  # type: ignore[arg-type]
        expected = b"csrftoken=c-1; position=1f; id=our-token"
        assert seen == [(b"host", b"test"), (b"cookie", expected)]


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
