"""bad-input.md, row by row: a clear 4xx (or nothing found), nothing altered, and never a 5xx."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from audit.tables import AuditLog
from home.database.engine import Engine
from home.tables import User, UserPreference
from tests.conftest import sign_in

pytestmark = pytest.mark.any_version

USERS = "/admin/api/tables/users/"
LOGS = "/admin/api/tables/audit_logs/"
PREFERENCES = "/admin/api/tables/user_preferences/"
DEEP = b'{"preferences": ' + b"[" * 20_000 + b"]" * 20_000 + b"}"


@pytest.fixture
async def ada(client: httpx.AsyncClient, administrator: User) -> httpx.AsyncClient:
    """Ada's browser, signed in to the back office."""
    await sign_in(client, "ada@example.com")
    return client


async def everything(db: Engine) -> list[Any]:
    tables = ("users", "user_preferences", "sessions", "sync_history")
    return [
        await db.run_ddl(f"SELECT to_jsonb(t) - '{{expire,last_seen_at}}'::text[] FROM {t} t")
        for t in tables
    ]


IDS = ["2147483648", "9223372036854775808", "1" * 40, "0", "-1", "1e3", "%00", "x", "1;", "%2e%2e"]
QUERIES = [
    "__page=1e20", "__page=-1", "__page=0", "__page=x", "__page_size=-1", "__page_size=0",
    "__page_size=1000000", "__order=unknown", "__order=-", "__order=password_hash",
    "id=99999999999999999999", "id=x", "id=%00", "email=%00", "email=%ED%A0%80",
    "is_admin=perhaps", "created_at=yesterday", "created_at=0001-01-01T00:00:00Z",
    "unknown=1", "email__operator=like", "id__operator=xx", "id=1&id=2", "email[]=a&email[]=b",
    "__visible_fields=password_hash", "__visible_fields=unknown", "email=%25_%5C",
    "email=" + "x" * 20_000, "__readable=maybe", "__range_header=true",
    "preferences=%7B", "id__operator=gt&id=",
]  # fmt: skip


@pytest.mark.parametrize("id_", IDS)
async def test_ids(ada: httpx.AsyncClient, db: Engine, id_: str) -> None:
    before = await everything(db)
    for method in ("GET", "PATCH", "DELETE", "PUT"):
        answer = await ada.request(method, f"{USERS}{id_}/", json={"display_name": "x"})
        assert 400 <= answer.status_code < 500, (method, answer.text)
    assert await everything(db) == before


@pytest.mark.parametrize("query", QUERIES)
async def test_queries(ada: httpx.AsyncClient, query: str) -> None:
    for path in (USERS, f"{USERS}count/", f"{USERS}ids/", LOGS, f"{LOGS}count/"):
        answer = await ada.get(f"{path}?{query}")
        assert answer.status_code < 500, (path, answer.text)
        assert "argon2" not in answer.text
    assert (await ada.get("/api/me")).status_code == 200


ROWS = [
    (PREFERENCES, {"user_id": 2**31, "preferences": "{}"}),
    (PREFERENCES, {"user_id": 2**63, "preferences": "{}"}),
    (PREFERENCES, {"user_id": 4711, "preferences": "{}"}),
    (PREFERENCES, {"user_id": 1, "preferences": '{"a": "\\u0000"}'}),
    (PREFERENCES, {"user_id": 1, "preferences": "{"}),
    (PREFERENCES, {"user_id": 1, "preferences": "NaN"}),
    (PREFERENCES, {"user_id": 1, "preferences": "{}", "created_at": "infinity"}),
    (PREFERENCES, {"user_id": 1, "preferences": "{}", "created_at": "2026-02-30T00:00:00Z"}),
    (PREFERENCES, [1]),
    (PREFERENCES, {}),
]


@pytest.mark.parametrize(("path", "row"), ROWS)
async def test_new_rows(ada: httpx.AsyncClient, db: Engine, path: str, row: Any) -> None:
    before = await everything(db)
    answer = await ada.post(path, json=row)
    assert 400 <= answer.status_code < 500, answer.text
    assert await everything(db) == before


PATCHES = [
    {"email": "nul\0@example.com"}, {"email": "x" * 256}, {"email": "no address"},
    {"email": "\u202e@example.com\n"}, {"display_name": "x" * 256}, {"display_name": "\0"},
    {"id": 7}, {"password_hash": "plain"}, {"is_admin": "perhaps"}, [], None, "x",
]  # fmt: skip


@pytest.mark.parametrize("patch", PATCHES)
async def test_patches(ada: httpx.AsyncClient, db: Engine, member: User, patch: Any) -> None:
    before = await User.select().order_by(User.id)
    answer = await ada.patch(f"{USERS}{member.id}/", json=patch)
    assert answer.status_code < 500, answer.text
    if answer.status_code != 200:
        assert await User.select().order_by(User.id) == before
    assert await User.exists().where(User.id == member.id, User.is_admin.eq(False))


BODIES = [
    b"", b"\xff", b"{", b"[" * 100_000, b'{"display_name": "\\ud800"}', b'{"display_name": NaN}',
    b'{"display_name": "a", "display_name": "b"', b"\xef\xbb\xbf{}", "{}".encode("utf-16"),
    b'{"id": ' + b"1" * 5_000 + b"}", DEEP,
]  # fmt: skip


@pytest.mark.parametrize("body", BODIES)
async def test_bodies(ada: httpx.AsyncClient, db: Engine, member: User, body: bytes) -> None:
    before = await everything(db)
    for method, path in (
        ("PATCH", f"{USERS}{member.id}/"),
        ("POST", PREFERENCES),
        ("POST", "/admin/public/login/"),
        ("POST", "/admin/api/change-password/"),
    ):
        answer = await ada.request(
            method, path, content=body, headers={"content-type": "application/json"}
        )
        assert answer.status_code < 500, (method, path, answer.text)
    assert await everything(db) == before


SIGN_INS = [
    [1], None, "x", 1, {}, {"username": 1, "password": "x"}, {"username": [1], "password": "x"},
    {"username": "ada@example.com", "password": {}}, {"username": "a", "password": True},
    {"username": "a\0", "password": "b\0"}, {"username": "x" * 300, "password": "y" * 2000},
]  # fmt: skip


@pytest.mark.parametrize("body", SIGN_INS)
async def test_sign_ins(client: httpx.AsyncClient, administrator: User, body: Any) -> None:
    await client.get("/admin/public/meta/")
    headers = {"X-CSRFToken": client.cookies["csrftoken"]}
    answer = await client.post("/admin/public/login/", json=body, headers=headers)
    assert 400 <= answer.status_code < 500, answer.text
    assert await AuditLog.count().where(AuditLog.action == "sign_in.succeeded") == 0


@pytest.mark.parametrize(
    ("method", "path", "headers"),
    [
        ("TRACE", "/api/me", {}),
        ("OPTIONS", "/api/me", {}),
        ("HEAD", "/api/me", {}),
        ("GET", "/%2e%2e/etc/passwd", {}),
        ("GET", "/static/%2e%2e/settings.py", {}),
        ("GET", "/api/me", {"cookie": "id=" + "x" * 5_000}),
        ("GET", "/api/me", {"cookie": "id=a; id=b"}),
        ("GET", "/api/me", {"cookie": "id=\u00e9"}),
        ("GET", "/api/me", {"cookie": 'id="a'}),
        ("POST", "/api/sign-in", {"content-length": "-5"}),
        ("POST", "/api/sign-in", {"content-length": "5x"}),
    ],
)
async def test_requests(
    client: httpx.AsyncClient, method: str, path: str, headers: dict[str, str]
) -> None:
    raw = {name.encode(): value.encode() for name, value in headers.items()}
    answer = await client.request(method, path, headers=raw)
    assert 400 <= answer.status_code < 500, answer.text
    assert "X-Request-ID".lower() in answer.headers


async def test_shown_text_stays_text(ada: httpx.AsyncClient, member: User) -> None:
    for name in ("<script>alert(1)</script>", "{{7*7}}", "=cmd|' /C calc'!A0"):
        answer = await ada.patch(f"{USERS}{member.id}/", json={"display_name": name})
        assert answer.status_code == 200
        assert (await ada.get(f"{USERS}{member.id}/")).json()["display_name"] == name
    assert await UserPreference.count() == 0
