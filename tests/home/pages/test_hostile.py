"""Names, details and reports that would be markup, templates or the wrong way round."""

from __future__ import annotations

import json
from html.parser import HTMLParser

import httpx
import pytest

from audit.context import Actor, acting_as
from audit.record import record
from audit.tables import AuditLog
from home.database.engine import Engine
from home.tables import Session, User
from sync_history.tables import SyncRun
from tests.conftest import PASSWORD, enter

pytestmark = pytest.mark.any_version

BACKWARDS = "\u202e"  # what follows is shown from right to left, unless it is isolated or escaped
HOSTILE = (
    f"<script>alert(1)</script><img src=x onerror=alert(2)> {{{{7919*7907}}}} '\"> {BACKWARDS}gpj.x"
)
MOST = 600_000  # characters of a page, whatever it has to show
EMPTY = {"input", "meta", "link", "img", "br", "hr", "wbr", "col", "rect", "line", "path", "circle"}


class Page(HTMLParser):
    """What a browser would run, and text that turns around what stands after it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.runs: list[str] = []
        self.turned: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        names = dict(attributes)
        if (tag == "script" and not (names.get("src") or "").startswith("/static/")) or any(
            name.startswith("on") or (value or "").strip().lower().startswith("javascript:")
            for name, value in attributes
        ):
            self.runs.append(self.get_starttag_text() or tag)
        if tag not in EMPTY:
            self.open.append("bdi" if "text" in (names.get("class") or "").split() else tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in EMPTY and self.open:
            self.open.pop()

    def handle_data(self, data: str) -> None:
        isolating = {"bdi", "title", "option", "textarea", "pre", "code"}
        if BACKWARDS in data and not isolating & {*self.open[-4:]}:
            self.turned.append(f"{self.open[-3:]} {data.strip()[:80]}")


@pytest.fixture
async def eve(db: Engine, administrator: User, member: User) -> User:
    """Somebody with such a name, who did things and to whom things happened."""
    eve = await User.create_user("eve@example.com", PASSWORD, is_approved=True)
    with acting_as(Actor("eve@example.com", eve.id, "10.6.6.6", "req-1")):
        await db.execute(
            "UPDATE users SET display_name = $1, organization = $1 WHERE id = $2", HOSTILE, eve.id
        )
        await Session.create_session(eve.id)
        await db.execute("UPDATE sessions SET sess = $1", json.dumps({"user_agent": HOSTILE}))
        await record(db, "note", resource=HOSTILE, resource_id=HOSTILE, details={HOSTILE: HOSTILE})
        await record(
            db, "big", details={"before": {"x": "w" * 10_000_000}, "after": {"x": HOSTILE}}
        )
    failures = [{"item": HOSTILE, "error": HOSTILE}] * 50
    await SyncRun(source="crm", status="running").save()
    await db.execute(
        "UPDATE sync_history SET status = 'partial', error_message = $1, attention_reason = $1,"
        " needs_attention = true, error_details = $2",
        HOSTILE,
        json.dumps({"failures": failures, "notes": [HOSTILE], "traceback": HOSTILE}),
    )
    return eve


async def paths(eve: User) -> list[str]:
    rows = await AuditLog.select(AuditLog.id).order_by(AuditLog.id)
    return [
        "/", "/account", "/people", "/people?group=all", f"/people?q={HOSTILE[:20]}",
        f"/people/{eve.id}", "/trail", "/trail?person=eve@example.com", "/trail/seals",
        f"/trail/of/users/{eve.id}", f"/trail?table={HOSTILE[:20]}&record=1",
        *(f"/trail/{row['id']}" for row in rows),
        "/sync", "/sync/crm", "/sync/runs/1", f"/nowhere/{HOSTILE[:20]}", "/api/docs",
    ]  # fmt: skip


@pytest.mark.parametrize("role", ["member", "is_auditor", "is_admin", "is_superuser"])
async def test_no_page_runs_or_turns_what_people_wrote(
    client: httpx.AsyncClient, db: Engine, eve: User, role: str
) -> None:
    rights = {} if role == "member" else {role: True}
    rights |= {"is_admin": True} if role == "is_superuser" else {}
    who = await User.create_user("who@example.com", PASSWORD, is_approved=True, **rights)
    await db.execute("UPDATE users SET display_name = $1 WHERE id = $2", HOSTILE, who.id)
    await enter(client, "who@example.com")
    seen = 0
    for path in await paths(eve):
        answer = await client.get(path, headers={"accept": "text/html"}, follow_redirects=True)
        assert answer.status_code in (200, 403, 404, 422), path
        page = Page(answer.text)
        assert page.runs == [], path
        assert page.turned == [], path
        assert str(7919 * 7907) not in answer.text, path
        assert len(answer.text) < MOST, path
        seen += "alert(1)" in answer.text
    assert seen >= (1 if role == "member" else 8)
