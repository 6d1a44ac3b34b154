"""What is refused at the door, and what every answer says to the browser."""

from __future__ import annotations

from collections.abc import AsyncIterator
from ipaddress import ip_network
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette

from home.tables import User
from tests.conftest import PASSWORD, client_with, sign_in

pytestmark = pytest.mark.any_version

HEADERS = (
    "content-security-policy",
    "x-content-type-options",
    "x-frame-options",
    "referrer-policy",
    "cross-origin-opener-policy",
)
MEL = {"email": "mel@example.com", "password": PASSWORD}


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/", 200), ("/admin/", 303), ("/api/me", 401), ("/nowhere", 404), ("/favicon.ico", 200),
        ("/api/health", 200), ("/api/health?details", 200), ("/api/health?x", 200),
        ("/health", 200), ("/health/live", 200), ("/metrics", 200), ("/health/nowhere", 404),
    ],
)  # fmt: skip
@pytest.mark.parametrize("times", [1, 3])
async def test_every_answer_has_security_headers(
    client: httpx.AsyncClient, path: str, status: int, times: int
) -> None:
    for answer in [await client.get(path) for _ in range(times)]:
        assert answer.status_code == status
        check_headers(answer)


@pytest.mark.parametrize("path", ["/api/health", "/health", "/metrics"])
async def test_also_where_health_and_figures_are_refused(url: str, path: str) -> None:
    async with client_with("203.0.113.9") as client:
        check_headers(await client.post(path))
        check_headers(await client.get(path))


def check_headers(answer: httpx.Response) -> None:
    for name in (*HEADERS, "cache-control"):
        assert len(answer.headers.get_list(name)) <= 1
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
        for path in ("/sign-in", "/api/health", "/health", "/health/live", "/metrics"):
            answer = await client.get(path)
            assert answer.headers["strict-transport-security"] == "max-age=31536000"


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://elsewhere.example"},
        {"origin": "null"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site", "origin": "http://test"},
        {"origin": "http://["},
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


FORM = '--x\r\nContent-Disposition: form-data; name="email"\r\n\r\na\r\n--x--\r\n'


@pytest.mark.parametrize(
    ("charset", "status"),
    [
        ("", 401),
        ("; charset=UTF-8", 401),
        ("; charset=punycode", 415),
    ],
)
async def test_forms_are_in_utf_8(client: httpx.AsyncClient, charset: str, status: int) -> None:
    """Python has codecs that take minutes for a megabyte."""
    headers = {"content-type": f"multipart/form-data; boundary=x{charset}"}
    answer = await client.post("/sign-in", content=FORM, headers=headers)
    assert answer.status_code == status


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


@pytest.mark.parametrize("hosts", [[], [""], ["test", "test"], ["test", "evil.example.net"]])
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_request_names_one_host(
    client: httpx.AsyncClient, hosts: list[str], method: str
) -> None:
    request = client.build_request(method, "/api/sign-in")
    others = [(name, value) for name, value in request.headers.raw if name.lower() != b"host"]
    request.headers = httpx.Headers([*others, *((b"host", host.encode()) for host in hosts)])
    answer = await client.send(request)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "bad_request")


async def test_what_is_somebodys_is_stored_nowhere(
    client: httpx.AsyncClient, administrator: User
) -> None:
    await sign_in(client, "ada@example.com")
    for path in ("/", "/api/me", "/api/openapi.json", "/admin/", "/admin/api/user/", "/nowhere"):
        assert (await client.get(path)).headers["cache-control"] == "no-store", path
    for path in ("/static/page.css", "/favicon.ico"):
        assert "cache-control" not in (await client.get(path)).headers, path


@pytest.mark.parametrize("path", ["/", "/admin/", "/api/me", "/health", "/nowhere"])
async def test_there_are_no_websockets(app: Starlette, path: str) -> None:
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "websocket", "path": path, "headers": [], "query_string": b"", "app": app}
    await app(scope, receive, send)
    assert sent == [{"type": "websocket.close"}]


@pytest.mark.parametrize(
    "path", ["/api/sign-in", "/admin/public/login/", "/admin/api/forms/approve-a-person/"]
)
@pytest.mark.parametrize("length", [b"100", None])
async def test_who_hangs_up_is_nobodys_mistake(
    app: Starlette, caplog: pytest.LogCaptureFixture, path: str, length: bytes | None
) -> None:
    messages = [{"type": "http.request", "body": b"{", "more_body": True}]
    sent: list[Any] = []

    async def receive() -> Any:
        return messages.pop() if messages else {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(b"host", b"test"), (b"content-type", b"application/json")]
    headers += [(b"content-length", length)] if length else []
    scope = {
        "type": "http", "method": "POST", "path": path, "raw_path": path.encode(), "scheme": "http",
        "query_string": b"", "headers": headers, "client": ("127.0.0.1", 1), "root_path": "",
        "http_version": "1.1", "server": ("test", 80), "state": {}, "asgi": {"version": "3.0"},
    }  # fmt: skip
    await app(scope, receive, send)
    assert sent == []
    assert [record for record in caplog.records if record.levelname != "DEBUG"] == []
