"""The trail in the browser, without a script: found, read, followed and taken away."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import AsyncIterator
from html import unescape
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from starlette.applications import Starlette

from audit import reading, verifying
from audit.context import Actor, acting_as
from audit.digests import SealKeys
from audit.proofs import from_json
from audit.record import record
from audit.seals import seal
from audit.tables import AuditLog
from audit.verify import AlreadyVerifying
from home.database.engine import Engine
from home.tables import User
from tests.audit.trails import KEYS, fill, tamper
from tests.conftest import PASSWORD, browser, client_with, enter

pytestmark = pytest.mark.any_version

HOSTILE = "<script>alert(1)</script>{{7*7}}\u202e\x1b[2Jعربي"


@pytest.fixture
async def auditor(url: str) -> User:
    """Vera, who reads and changes nothing."""
    rights = {"is_auditor": True, "is_approved": True, "display_name": "Vera"}
    return await User.create_user("vera@example.com", PASSWORD, **rights)


@pytest.fixture
async def reader(app: Starlette, auditor: User) -> AsyncIterator[httpx.AsyncClient]:
    async with browser(app) as client:
        await enter(client, auditor.email)
        yield client


async def appoint(db: Engine, who: User, by: User, **rights: bool) -> None:
    """Change somebody's rights as a page does: one request, from an address."""
    with acting_as(Actor(by.email, by.id, "10.1.2.3", "request-7")):
        columns = ", ".join(f"{name} = {value}" for name, value in rights.items())
        await db.execute(f"UPDATE users SET {columns} WHERE id = $1", who.id)


def texts(page: str) -> list[str]:
    """Return what the entries of a page say, as a person reads it."""
    found = re.findall(r'<li class="entry.*?</li>', page, re.DOTALL)
    plain = [unescape(re.sub(r"<[^>]*>", "", each)) for each in found]
    return [re.sub(r"\s+", " ", each).strip() for each in plain]


async def test_an_auditor_lands_on_the_trail_and_reads_it_in_words(
    reader: httpx.AsyncClient, db: Engine, administrator: User, member: User
) -> None:
    await appoint(db, member, administrator, is_admin=True)
    await db.execute("UPDATE users SET display_name = 'Bob' WHERE id = $1", member.id)
    answer = await reader.get("/")
    assert (answer.status_code, answer.headers["location"]) == (303, "/trail")
    page = (await reader.get("/trail?table=users&column=is_admin&last=7&address=10.1.2.3")).text
    [entry] = texts(page)
    assert (
        "ada@example.com made mel@example.com (Bob) an administrator · is_admin no → yes" in entry
    )
    assert "10.1.2.3" in entry
    assert f'href="/people/{administrator.id}"' in page
    assert f'href="/people/{member.id}"' in page
    assert ">Today</h2>" in page
    rows = (await reader.get("/api/trail?column=is_admin")).json()["rows"]
    assert [row["sentence"] for row in rows] == [
        "ada@example.com made mel@example.com (Bob) an administrator: is_admin no → yes,"
        " from 10.1.2.3"
    ]


async def test_every_filter_chooses_and_all_combine(
    reader: httpx.AsyncClient, db: Engine, administrator: User, member: User
) -> None:
    await appoint(db, member, administrator, is_admin=True)
    await fill(db, 1, 60)
    one = {
        "person": administrator.email, "table": "users", "record": str(member.id),
        "column": "is_admin", "action": "users.update", "address": "10.1.2.3",
        "request": "request-7", "last": "1",
    }  # fmt: skip
    wanted = await AuditLog.select(AuditLog.id).where(AuditLog.request_id == "request-7").first()
    assert wanted is not None
    for name in (*one, None):
        given = one if name is None else {name: one[name]} | {"table": "users"}
        ids = set[int]()
        before = ""
        while True:
            answer = await reader.get("/api/trail", params=given | {"before": before})
            found = answer.json()
            ids |= {row["id"] for row in found["rows"]}
            before = str(found["next"])
            if found["next"] is None:
                break
        assert wanted["id"] in ids, name
        assert name in ("table", "action", "last", "record") or len(ids) == 1, (name, ids)
        other = {"last": "1", "column": "is_superuser"} if name == "last" else {name or "": "other"}
        if name not in (None, "last"):
            assert (await reader.get("/api/trail", params=given | other)).json()["rows"] == []
    by_number = (await reader.get(f"/api/trail?person={administrator.id}")).json()["rows"]
    assert [row["id"] for row in by_number] == [wanted["id"]]
    day = (await AuditLog.select(AuditLog.created_at).where(AuditLog.id == wanted["id"]))[0]
    at = f"{day['created_at']:%Y-%m-%d}"
    dated = f"/api/trail?column=is_admin&from={at}"
    assert len((await reader.get(f"{dated}&to={at}")).json()["rows"]) == 1
    assert (await reader.get(f"{dated}T23:59:59.999999")).json()["rows"] == []


async def test_pages_follow_one_another_without_gaps(
    reader: httpx.AsyncClient, db: Engine, auditor: User
) -> None:
    await db.execute("ALTER TABLE audit_logs DISABLE TRIGGER USER")
    await fill(db, 1, 130)
    await db.execute("UPDATE audit_logs SET created_at = now() WHERE id % 2 = 0")  # one moment
    seen, path = list[int](), "/trail"
    for _ in range(4):
        page = (await reader.get(path)).text
        seen += [int(id_) for id_ in re.findall(r'class="time" href="/trail/(\d+)"', page)]
        older = re.search(r'href="([^"]*)">Older', page)
        if older is None:
            break
        path = unescape(older[1])
    rows = await db.fetch("SELECT id FROM audit_logs ORDER BY created_at DESC, id DESC")
    assert seen == [row["id"] for row in rows]


async def test_a_page_says_how_far_it_has_looked(
    reader: httpx.AsyncClient, db: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "LOOK_AT", 20)
    await fill(db, 1, 70)
    page = (await reader.get("/trail?column=nothing")).text
    assert "Looked through 20 rows; there are older ones." in page
    assert "Nothing among these rows." in page
    steps = 0
    while (on := re.search(r'href="([^"]*)">Go on', page)) is not None:
        page = (await reader.get(unescape(on[1]))).text
        steps += 1
    assert steps == 3
    assert "The trail holds nothing like that." in page


async def test_no_page_looks_through_more_bytes_than_its_share(
    reader: httpx.AsyncClient, db: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "LOOK_AT_BYTES", 30_000)
    noise = "(SELECT string_agg(md5(random()::text), '') FROM generate_series(1, 500) WHERE n > 0)"
    await db.execute(
        "INSERT INTO audit_logs (action, resource, details) SELECT 'things.update', 'things',"
        f" jsonb_build_object('after', jsonb_build_object('a', {noise}))"
        " FROM generate_series(1, 12) AS n"
    )
    ids, before, pages = list[int](), "", 0
    while before != "None":
        found = (await reader.get(f"/api/trail?table=things&column=a&before={before}")).json()
        ids += [row["id"] for row in found["rows"]]
        assert len(found["rows"]) <= 3
        before, pages = str(found["next"]), pages + 1
    assert (len(ids), len(set(ids))) == (12, 12)
    assert pages > 4


WRONG = [
    "last=many", "last=0", "last=99999999999", "from=yesterday", "to=2026-13-40",
    "from=2026-02-01&to=2026-01-01", "last=7&from=2026-01-01", "person=99999999999999",
    "before=x", "before=99999999999999999999", "person=" + "x" * 300,
    "from=9999-12-31&to=9999-12-31",
]  # fmt: skip


@pytest.mark.parametrize("wrong", WRONG)
async def test_nonsense_is_refused_with_a_sentence_and_nothing_typed_is_lost(
    reader: httpx.AsyncClient, wrong: str
) -> None:
    answer = await reader.get(f"/trail?table=kept+%3Cb%3E&{wrong}")
    assert answer.status_code == 422
    assert 'role="alert"' in answer.text
    assert 'value="kept &lt;b&gt;"' in answer.text
    for part in wrong.split("&"):
        name, _, value = part.partition("=")
        assert f'value="{value}"' in answer.text or name == "before"
    for path in ("/api/trail?", "/trail/export?"):
        if path == "/api/trail?" or "before" not in wrong:
            answer = await reader.get(path + f"table=kept&{wrong}")
            assert (answer.status_code, answer.json()["error"]["code"]) == (422, "invalid")


@pytest.mark.parametrize(
    "odd", ["person=%00", "table=%ff", "action=';--", "request=%F0%9F%98%80", "address=::1",
            "person=%40", "column=%00", "unknown=1", "person=cli%3Aada", "last=", "before="],
)  # fmt: skip
async def test_odd_filters_find_nothing_or_something(reader: httpx.AsyncClient, odd: str) -> None:
    assert (await reader.get(f"/trail?{odd}")).status_code == 200


@pytest.mark.parametrize(
    ("path", "status"),
    [("/trail/99999", 404), ("/trail/99999999999999999999999", 404), ("/trail/x", 404),
     ("/trail/of/users/99999", 404), ("/trail/of/nothing/%00", 404), ("/trail?before=99999", 404),
     ("/api/trail/x", 404), ("/api/trail/99999", 404), ("/api/trail/99999999999999999999999", 404),
     ("/trail/seals?before=x", 422), ("/trail/export?format=exe", 422)],
)  # fmt: skip
async def test_what_is_not_there_is_said(reader: httpx.AsyncClient, path: str, status: int) -> None:
    answer = await reader.get(path)
    assert answer.status_code == status, answer.text
    assert answer.json()["error"]["message"]


async def test_what_others_wrote_is_text(
    reader: httpx.AsyncClient, db: Engine, member: User, administrator: User
) -> None:
    await db.execute("UPDATE users SET display_name = $1 WHERE id = $2", HOSTILE, member.id)
    await appoint(db, member, administrator, is_admin=True)
    with acting_as(Actor(HOSTILE, None, "10.0.0.9", HOSTILE[:50])):
        await record(db, "some.thing", HOSTILE, HOSTILE, {HOSTILE: [HOSTILE, {"a": None}]})
    [row] = await AuditLog.select(AuditLog.id).where(AuditLog.action == "some.thing")
    for table in (HOSTILE, "things"):
        await record(db, "some.thing", table, HOSTILE)
    paths = [
        "/trail",
        f"/trail/{row['id']}",
        f"/trail/of/things/{quote(HOSTILE, safe='')}",
    ]
    for path in [*paths, f"/trail?{httpx.QueryParams({'table': HOSTILE, 'person': HOSTILE})}"]:
        answer = await reader.get(path)
        assert answer.status_code == 200, path
        body = answer.text.partition("<body>")[2]
        assert "<script" not in body
        assert "{{7*7}}" in body
        outside = re.sub(r'value="[^"]*"|<option>[^<]*</option>', "", body)
        assert "\u202e" not in outside
        assert "\x1b" not in outside
    links = re.findall(r'href="(/trail[^"]+)"', (await reader.get("/trail")).text)
    assert len(links) > 9
    for link in links:
        assert (await reader.get(unescape(link))).status_code == 200, link


async def test_a_change_in_full(
    reader: httpx.AsyncClient, db: Engine, administrator: User, member: User
) -> None:
    was = {"a": 1, "list": [1, 2], "same": "x"}
    with acting_as(Actor("ada@example.com", administrator.id, "10.1.2.3", "request-8")):
        await record(db, "tools.update", "tools", 5, {
            "before": {"settings": was, "hash": "***", "name": "Ladder", "flag": False},
            "after": {"settings": was | {"a": 2}, "hash": "***", "name": "Long", "flag": None},
        })  # fmt: skip
        await record(db, "tools.insert", "tools", 6, {"after": {"name": "Saw"}})
    [row] = await AuditLog.select(AuditLog.id).where(AuditLog.action == "tools.update")
    page = (await reader.get(f"/trail/{row['id']}")).text
    assert "not sealed yet" in page
    assert "changed; never shown" in page
    cells = unescape(page)
    assert '<del>  "a": 1,</del>' in cells
    assert '<ins>  "a": 2,</ins>' in cells
    assert "<span>{</span>" in cells
    for text in ("<del>Ladder</del>", "<ins>Long</ins>", "<del>no</del>", "<ins>—</ins>"):
        assert text in cells
    for text in ("10.1.2.3", "request-8", "tools.update", "/trail/of/tools/5"):
        assert text in page
    neighbours = texts(page)
    assert len(neighbours) == 2
    assert any("added tools 6" in each for each in neighbours)
    await seal(db, KEYS)
    page = (await reader.get(f"/trail/{row['id']}")).text
    assert "by seal 1, not verified since" in page
    assert "proof.json" not in page, "which administrators may take away"
    assert (await reader.get(f"/trail/{row['id']}/proof.json")).status_code == 403


async def test_administrators_take_the_proof_of_a_row_away(
    app: Starlette, db: Engine, administrator: User
) -> None:
    async with browser(app) as client:
        await enter(client, administrator.email)
        await record(db, "tools.update", "tools", 5)
        [row] = await AuditLog.select(AuditLog.id).where(AuditLog.action == "tools.update")
        assert "proof.json" not in (await client.get(f"/trail/{row['id']}")).text
        path = f"/trail/{row['id']}/proof.json"
        answer = await client.get(path)
        assert (answer.status_code, "is not sealed yet" in answer.text) == (422, True)
        await seal(db, KEYS)
        assert path in (await client.get(f"/trail/{row['id']}")).text
        answer = await client.get(path)
        assert answer.status_code == 200
        assert "attachment" in answer.headers["content-disposition"]
        proof = from_json(answer.json())
        proof.check(proof.seal)
        assert proof.row[1] == "tools.update"
        assert (await client.get(f"/trail/{2**70}/proof.json")).status_code == 404


async def test_ten_megabytes_in_a_row_are_cut_and_the_page_is_small(
    reader: httpx.AsyncClient, db: Engine
) -> None:
    big = "jsonb_build_object('before', jsonb_build_object('text', 'x', 'n', 1), 'after',"
    big += " jsonb_build_object('text', repeat('<b>ä', 2500000), 'n', 2))"
    await db.execute(
        "INSERT INTO audit_logs (action, resource, resource_id, details)"
        f" VALUES ('things.update', 'things', '1', {big})"
    )
    [row] = await AuditLog.select(AuditLog.id).where(AuditLog.resource == "things")
    page = await reader.get(f"/trail/{row['id']}")
    assert len(page.content) < 100_000
    assert "&lt;b&gt;ä" in page.text
    assert "<br>cut" in page.text
    assert "<ins>2</ins>" in page.text
    listed = await reader.get("/trail?table=things")
    assert "too long to show here" in listed.text
    assert len(listed.content) < 100_000
    [entry] = (await reader.get("/api/trail?table=things")).json()["rows"]
    assert (entry["details"], entry["is_large"]) == (None, True)
    whole = (await reader.get(f"/api/trail/{row['id']}")).json()
    assert len(whole["details"]["after"]["text"]) == 10_000_000


async def test_the_life_of_a_record_also_with_a_key_of_two_columns(
    reader: httpx.AsyncClient, db: Engine
) -> None:
    key = '["a/b", 7]'
    for number in range(60):
        await record(db, "pairs.update", "pairs", key, {"before": {"n": number}, "after": {"n": 0}})
    listed = (await reader.get("/trail?table=pairs")).text
    path = re.findall(r'href="(/trail/of/pairs/[^"]*)"', listed)[0]
    page = (await reader.get(unescape(path))).text
    assert len(texts(page)) == 50
    older = re.search(r'href="([^"]*)">Older', page)
    assert older is not None
    assert len(texts((await reader.get(unescape(older[1]))).text)) == 10
    api = (await reader.get(f"/api/trail/of/pairs/{quote(key, safe='')}")).json()
    assert (len(api["rows"]), api["next"] is None) == (50, False)


async def test_changes_of_one_request_are_counted_and_stand_together(
    reader: httpx.AsyncClient, db: Engine, administrator: User
) -> None:
    with acting_as(Actor("ada@example.com", administrator.id, "10.1.2.3", "r9")):
        for number in range(3):
            await record(db, "some.thing", "things", number)
    page = (await reader.get("/trail?table=things")).text
    assert page.count("3 changes in this request") == 1
    assert page.count("entry trail same") == 2
    assert len(texts((await reader.get("/trail?request=r9")).text)) == 3


@pytest.mark.parametrize("format_", ["csv", "ndjson"])
async def test_what_is_filtered_is_exported_and_that_is_on_the_trail(
    reader: httpx.AsyncClient, db: Engine, format_: str
) -> None:
    await fill(db, 1, 1_200)
    filters = "table=users&action=users.update&column=n"
    answer = await reader.get(f"/trail/export?{filters}&format={format_}")
    assert answer.headers["content-disposition"] == f'attachment; filename="trail.{format_}"'
    if format_ == "csv":
        rows: list[Any] = list(csv.DictReader(io.StringIO(answer.text)))
    else:
        rows = [json.loads(line) for line in answer.text.splitlines()]
    assert len(rows) == 1_200
    [done] = await AuditLog.select().where(AuditLog.action == "audit.export")
    details = json.loads(done["details"])
    assert details["rows"] == 1_200
    chosen = {"action": "users.update", "resource": "users", "column": "n"}
    assert details["filters"] == chosen
    assert done["actor"] == "vera@example.com"
    assert "exported the trail" in (await reader.get("/trail")).text


async def test_the_seals_and_verifying_from_the_browser(administrator: User, db: Engine) -> None:
    await fill(db, 1, 50)
    async with client_with(audit_seal_key=None) as client:
        await enter(client, administrator.email)
        await seal(db, SealKeys(None))
        page = (await client.get("/trail/seals")).text
        assert "The trail was never verified." in page
        page = await verified(client)
        assert "as sealed" in page
        [row] = await AuditLog.select().where(AuditLog.action == "audit.verify")
        assert row["actor"] == administrator.email
        await tamper(db, "UPDATE audit_logs SET actor = 'x' WHERE resource_id = '20'")
        page = await verified(client)
        assert "not as sealed" in page
        assert "was altered" in page
        lines = (await client.get("/trail/seals.ndjson")).text.splitlines()
        assert [json.loads(line)["id"] for line in lines] == [1]


async def test_an_auditor_may_watch_and_not_verify(reader: httpx.AsyncClient, db: Engine) -> None:
    await seal(db, SealKeys(None))
    page = (await reader.get("/trail/seals")).text
    assert "Administrators verify it." in page
    assert "Verify now" not in page
    assert (await reader.post("/trail/seals/verify")).status_code == 403
    async with db.transaction():  # as another process does, while it verifies
        await db.execute("SELECT pg_advisory_xact_lock($1)", verifying.LOCK)
        page = (await reader.get("/trail/seals")).text
    assert "in another process" in page
    assert 'hx-trigger="every 1s"' in page
    assert "verifying</span>" not in (await reader.get("/trail/seals")).text


async def test_one_verification_at_a_time(db: Engine, administrator: User) -> None:
    verifier = verifying.Verifier(db, SealKeys(None))
    async with db.transaction():
        await db.execute("SELECT pg_advisory_xact_lock($1)", verifying.LOCK)
        with pytest.raises(AlreadyVerifying):
            await verifier.start()
    await verifier.start()
    with pytest.raises(AlreadyVerifying):
        await verifier.start()
    await verifier.close()
    assert verifier.progress is not None
    assert not verifier.progress.is_running


async def test_a_record_needs_its_table(reader: httpx.AsyncClient) -> None:
    answer = await reader.get("/trail?record=7")
    assert answer.status_code == 422
    assert "A record needs its table" in answer.text
    assert 'name="record" value="7"' in answer.text
    assert "<details open>" in answer.text


async def verified(client: httpx.AsyncClient) -> str:
    """Verify the trail as a person does; return the page once it has been done."""
    page = (await client.get("/trail/seals")).text
    token = re.search(r'name="csrf_token" value="(\w+)"', page)
    assert token is not None
    answer = await client.post("/trail/seals/verify", data={"csrf_token": token[1]})
    assert (answer.status_code, answer.headers["location"]) == (303, "/trail/seals")
    for _ in range(200):
        page = (await client.get("/trail/seals")).text
        if "verifying</span>" not in page:
            break
    return page


async def test_members_and_strangers_do_not_read_it(
    client: httpx.AsyncClient, member: User
) -> None:
    paths = ["/trail", "/trail/1", "/trail/of/users/1", "/trail/seals", "/trail/seals.ndjson",
             "/trail/export"]  # fmt: skip
    for path in paths:
        answer = await client.get(path)
        assert answer.headers["location"] == f"/sign-in?next={path}"
    await enter(client, member.email)
    for path in paths:
        assert (await client.get(path)).status_code == 403
    for path in ("/api/trail", "/api/trail/1", "/api/trail/of/users/1"):
        assert (await client.get(path)).status_code == 403
    assert (await client.get("/account")).text.count('href="/trail"') == 0
