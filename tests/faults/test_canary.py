"""R15: distinctive secrets run through every failure; nothing of them shows up anywhere."""

from __future__ import annotations

import asyncio
import json

import asyncpg
import httpx
import pytest

from home.tables import User
from tests.conftest import run_piccolo
from tests.live import running
from tests.postgres import Server
from tests.proxy import proxied

pytestmark = pytest.mark.direct
DATABASE, REPLICA, KEY, PERSON, TYPED = (
    f"canary-{name}-c4n4ry/#@" for name in ("database", "replica", "key", "person", "typed")
)
EVERYTHING = "SELECT a::text FROM audit_logs a UNION ALL SELECT s::text FROM audit_seals s"


def encoded(secret: str) -> str:
    return secret.replace("/", "%2F").replace("#", "%23").replace("@", "%40")


async def misbehave(client: httpx.AsyncClient, said: list[str]) -> str:
    """Ask for all sorts of things; returns the session's token, which only its cookie may hold."""
    requests: list[tuple[str, str, object]] = [
        ("POST", "/api/sign-in", {"email": "mel@example.com", "password": TYPED}),
        ("POST", "/api/sign-in", {"email": "mel@example.com", "password": TYPED, "more": TYPED}),
        ("POST", "/api/sign-in", {"email": TYPED, "password": [TYPED]}),
        ("POST", "/api/register", {"email": "no address", "password": TYPED}),
        ("POST", "/api/register", {"email": "new@example.com", "password": TYPED}),
        ("POST", "/api/register", {"email": "x@example.com", "password": TYPED + "\x00"}),
        ("POST", "/admin/public/login/", {"username": "mel@example.com", "password": TYPED}),
        ("POST", "/api/sign-in", {"email": "mel@example.com", "password": PERSON}),
        ("GET", "/api/me", None),
        ("GET", "/api/me/sessions", None),
        ("PUT", "/api/me/preferences", {"n": 1}),
        ("GET", f"/api/me/sessions/{encoded(TYPED)}?password={encoded(TYPED)}", None),
        ("GET", "/api/health?details", None),
        ("GET", "/metrics", None),
        ("GET", "/", None),
        ("GET", "/admin/api/tables/users/", None),
    ]
    for method, path, body in requests:
        try:
            answer = await client.request(method, path, json=body)
        except httpx.TransportError:
            continue
        headers = {k: v for k, v in answer.headers.items() if k != "set-cookie"}
        said.append(f"{answer.status_code} {headers} {answer.text}")
        if path == "/api/sign-in" and answer.status_code == 200:
            client.headers["x-csrf-token"] = json.loads(answer.text)["csrf_token"]
    return client.cookies.get("id") or ""


async def test_no_secret_shows_up(server: Server) -> None:
    admin = await asyncpg.connect(server.url())
    await admin.execute(f"CREATE ROLE canary SUPERUSER LOGIN PASSWORD '{DATABASE}'")
    await User.create_user("mel@example.com", PERSON, is_approved=True)
    place = f"canary:{encoded(DATABASE)}@127.0.0.1:{server.port}"
    said: list[str] = []
    async with proxied(f"postgresql://{place}/{server.database}") as (proxy, through):
        env = {
            "DATABASE_REPLICA_URL": f"postgresql://someone:{encoded(REPLICA)}@127.0.0.1:1/db",
            "AUDIT_SEAL_KEY": KEY + "k" * 32,
            "AUDIT_SEAL_INTERVAL": "1",
            "LOG_LEVEL": "debug",
        }
        with running(through, **env) as live:
            async with httpx.AsyncClient(base_url=live.address, timeout=20) as client:
                token = await misbehave(client, said)
                assert token, said
                await admin.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE usename = 'canary'"
                )
                await misbehave(client, said)
                await admin.execute("ALTER ROLE canary PASSWORD 'another'")
                await admin.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE usename = 'canary'"
                )
                await misbehave(client, said)
                await admin.execute(f"ALTER ROLE canary PASSWORD '{DATABASE}'")
                silent = asyncio.create_task(misbehave(client, said))
                await asyncio.sleep(0.05)
                proxy.drop()
                await asyncio.sleep(1)
                proxy.heal()
                await silent
                await admin.close()
                await asyncio.to_thread(server.kill)
                await misbehave(client, said)
                await asyncio.to_thread(server.start)
            said.append(await asyncio.to_thread(live.end))
        for command in (("audit", "verify"), ("home", "migrate")):
            wrong = through.replace("canary:", "nobody:")
            done = await asyncio.to_thread(run_piccolo, wrong, *command, **env)
            assert done.returncode
            said.append(done.stdout + done.stderr)
    admin = await asyncpg.connect(server.url())
    said += [row[0] for row in await admin.fetch(EVERYTHING)]
    await admin.execute("DROP ROLE canary")
    await admin.close()
    everything = "\n".join(said)
    assert "request_without_database" in everything
    assert "sign_in.failed" in everything
    for secret in (DATABASE, REPLICA, KEY, PERSON, TYPED, token):
        for form in (secret, encoded(secret), json.dumps(secret)[1:-1]):
            assert form not in everything, everything[max(0, everything.find(form) - 300) :][:600]
