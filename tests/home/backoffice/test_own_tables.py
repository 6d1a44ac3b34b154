"""A table of somebody else's app, named in `App(tables=...)` and nowhere else, over HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from structlog.testing import capture_logs

from audit.apps import App
from home.database.engine import Engine
from home.tables import User
from tests.conftest import sign_in
from tests.home.backoffice.conftest import Tool, client_of

pytestmark = pytest.mark.any_version

TOOLS = "/admin/api/tables/tools/"
LADDER = {"name": "Ladder", "pieces": 3, "sizes": [1, 2], "details": '{"colour": "red"}'}

INVENTORY = App(tables=lambda services: [Tool], sentences={"tools_seven": "At most seven pieces."})


@pytest.fixture
async def ada(url: str, administrator: User) -> AsyncIterator[httpx.AsyncClient]:
    """Ada's browser, where tools are in the back office, one of which is a ladder."""
    async with client_of(inventory=INVENTORY) as client:
        await Tool.create_table()
        await sign_in(client, administrator.email)
        answer = await client.post(TOOLS, json=LADDER)
        assert answer.status_code == 201, answer.text
        yield client


def shown(answer: httpx.Response) -> str:
    """What piccolo-admin's page for rows and forms makes of a refusal."""
    content = answer.json()
    if answer.status_code == 422 and "detail" in content:
        return ", ".join(f"{each['loc'][-1]} field - {each['msg']}" for each in content["detail"])
    return str(content.get("custom_form_error", content))


async def test_a_bare_table_is_listed_and_takes_rows(ada: httpx.AsyncClient) -> None:
    assert "tools" in (await ada.get("/admin/api/tables/")).json()
    [ladder] = (await ada.get(TOOLS)).json()["rows"]
    assert (ladder["name"], ladder["sizes"]) == ("Ladder", [1, 2])
    assert (await ada.post(TOOLS, json={"name": "Saw", "pieces": 1})).status_code == 201
    assert (await ada.get(f"{TOOLS}count/")).json()["count"] == 2
    answer = await ada.patch(f"{TOOLS}{ladder['id']}/", json={"name": "Steps", "pieces": 2})
    assert (answer.status_code, answer.json()["name"]) == (200, "Steps")
    assert (await ada.delete(f"{TOOLS}{ladder['id']}/")).status_code == 204


@pytest.mark.parametrize(
    "query",
    [
        "name=adder", "name=Ladder&name__match=exact", "pieces=3&pieces__operator=gte", "sizes=1",
        "sizes[]=1&sizes[]=2", "price__operator=is_null", "__order=-pieces,name", "name=null",
        "__order=pieces&__order=-id", "__visible_fields=id,name,details", "__page=1&__page_size=5",
        "__range_header=true&__range_header_name=my.tools",
    ],
)  # fmt: skip
async def test_what_can_be_asked_for(ada: httpx.AsyncClient, query: str) -> None:
    answer = await ada.get(f"{TOOLS}?{query}")
    assert answer.status_code == 200, answer.text
    found = 0 if query == "name=null" else 1
    assert len(answer.json()["rows"]) == found or query == "name=null"


@pytest.mark.parametrize(
    "query",
    [
        "name=a&name=b", "name[]=a", "name]=a&name=b", "sizes[]=x", "sizes=1&sizes[]=x",
        "name=" + "x" * 21, "pieces=" + "9" * 5_000, "pieces=1&pieces=2", "unknown=1", "=1",
        "pieces__operator=like", "pieces__operator=gt&pieces__operator=lt", "name__match=like",
        "pieces=1&pieces__operator[]=gt", "details={}", "details__operator=gt&details={}",
        "pin=1", "__order=pin", "__order=details", "__order=", "__order=-", "__order=id,",
        "__order[]=id", "__order=id,name&__order=id", "__order=name.length", "__order=id.x",
        "__visible_fields=pin", "__visible_fields=id.x", "__visible_fields=_meta",
        "__page=1&__page=2", "__page_size=1&__page_size=2", "__page_size=-1", "__page=1e20",
        "__page=99999999999999999999", "__page_size=" + "9" * 5_000, "serial_number=x",
        "bought_at=0001-01-01T00:00:00%2B14:00&bought_at__operator=x",
        "__range_header=true&__range_header_name=a%0D%0Ab", "__readable=no",
        "name=%00", "price=NaN", "price=1e999999", "x" * 9_000,
    ],
)  # fmt: skip
async def test_what_cannot_be_asked_for(ada: httpx.AsyncClient, query: str) -> None:
    for path in (TOOLS, f"{TOOLS}count/"):
        with capture_logs() as logs:
            answer = await ada.get(f"{path}?{query}")
        is_unread = path != TOOLS and query.startswith(("__range_header=", "__page"))
        assert 400 <= answer.status_code < 500 or is_unread, (path, answer.text)
        assert answer.status_code < 500, (path, answer.text)
        assert [each for each in logs if each["log_level"] == "error"] == []
    for path in (f"{TOOLS}1/", f"{TOOLS}ids/"):
        assert (await ada.get(f"{path}?{query}")).status_code < 500, path
    assert len((await ada.get(TOOLS)).json()["rows"]) == 1


ROWS: list[dict[str, Any]] = [
    {"name": "x" * 21}, {"name": "\0"}, {"name": 1}, {"name": None}, {"pieces": 2**31},
    {"pieces": 2**63}, {"pieces": "x"}, {"pieces": 1.5}, {"price": 10**12}, {"price": "NaN"},
    {"price": "1e999999"}, {"bought_at": "infinity"}, {"bought_at": "0001-01-01T00:00:00+14:00"},
    {"bought_at": "9999-12-31T23:59:59-14:00"}, {"bought_at": "2026-02-29T00:00:00Z"},
    {"sizes": 1}, {"sizes": ["x"]}, {"sizes": [[1]]}, {"sizes": [2**40]}, {"details": "{"},
    {"serial_number": 7}, {"unknown": 1}, {"__class__": 1},
    {"_meta": {}}, {"__proto__": 1}, {"copy": 1}, {"select": 1},
]  # fmt: skip


@pytest.mark.parametrize("row", ROWS)
async def test_rows_that_cannot_be(ada: httpx.AsyncClient, row: dict[str, Any]) -> None:
    before = await Tool.select()
    for method, path in (("POST", TOOLS), ("PATCH", f"{TOOLS}1/"), ("PUT", f"{TOOLS}1/")):
        with capture_logs() as logs:
            answer = await ada.request(method, path, json={"name": "Saw", "pieces": 1} | row)
        assert 400 <= answer.status_code < 500, (method, answer.status_code, answer.text)
        assert [each for each in logs if each["log_level"] == "error"] == []
    assert await Tool.select() == before


@pytest.mark.parametrize(
    ("method", "body", "sentence"),
    [
        ("PATCH", b"{}", "Name at least one field to change."),
        ("PUT", b"{}", "Name at least one field to change."),
        ("PUT", b'{"id": 2, "name": "x"}', "Unknown field: id."),
        ("PATCH", b'{"nmae": "x"}', "Unknown field: nmae."),
        ("PATCH", b"[]", "Send a JSON object."),
        ("PATCH", b'{"price": 1e400}', "A number is too large."),
        ("PATCH", b'{"pieces": 1' + b"0" * 30 + b"}", "A number is too large."),
        ("PATCH", b'{"pieces": 2147483648}', "This value cannot be stored or searched for."),
    ],
)
async def test_the_page_shows_a_sentence(
    ada: httpx.AsyncClient, method: str, body: bytes, sentence: str
) -> None:
    headers = {"content-type": "application/json"}
    answer = await ada.request(method, f"{TOOLS}1/", content=body, headers=headers)
    assert (answer.status_code, shown(answer)) == (422, sentence)
    assert answer.json()["error"]["message"] == sentence


@pytest.mark.parametrize(
    ("rule", "method", "path", "row", "sentence"),
    [
        ("CHECK (pieces < 9)", "POST", "", {"pieces": 9}, "This breaks the rule tools_odd."),
        ("CHECK (pieces < 9)", "PATCH", "1/", {"pieces": 9}, "This breaks the rule tools_odd."),
        ("CHECK (pieces < 8)", "PATCH", "1/", {"pieces": 8}, "At most seven pieces."),
        ("UNIQUE (name, pieces)", "POST", "", {"name": "Ladder", "pieces": 3},
         "Another row has the same name, pieces (rule tools_odd)."),
        ("FOREIGN KEY (pieces) REFERENCES users", "PATCH", "1/", {"pieces": 4711},
         "Rows of tools refer to other rows, and one of these would be missing (rule tools_odd)."),
        ("EXCLUDE (name WITH =)", "POST", "", {"name": "Ladder"},
         "This breaks the rule tools_odd."),
        ("CHECK (true), ALTER sizes SET NOT NULL", "POST", "", {"sizes": None},
         "A value is missing: sizes."),
    ],
)  # fmt: skip
async def test_a_violated_constraint_is_a_sentence_without_the_databases_words(
    ada: httpx.AsyncClient,
    db: Engine,
    caplog: pytest.LogCaptureFixture,
    rule: str,
    method: str,
    path: str,
    row: dict[str, Any],
    sentence: str,
) -> None:
    name = "tools_seven" if "8" in rule else "tools_odd"
    await db.execute("UPDATE tools SET pieces = id")
    await db.execute(f"ALTER TABLE tools ADD CONSTRAINT {name} {rule}")
    await db.execute("UPDATE tools SET pieces = 1")
    with capture_logs() as logs:
        body = ({"name": "Saw", "pieces": 1} if method == "POST" else {}) | row
        if body.get("name") == "Ladder":
            body["pieces"] = 1
        answer = await ada.request(method, TOOLS + path, json=body)
    assert (answer.status_code, shown(answer)) == (422, sentence)
    assert answer.json()["error"] == {"message": sentence, "code": "conflict"}
    assert [each for each in logs if each["log_level"] == "error"] == []
    assert [record for record in caplog.records if record.exc_info] == []


async def test_a_row_that_others_refer_to_stays(ada: httpx.AsyncClient, db: Engine) -> None:
    await db.execute(
        "CREATE TABLE loans (tool_id integer CONSTRAINT loans_tool_fk REFERENCES tools)"
    )
    await db.execute("INSERT INTO loans VALUES (1)")
    answer = await ada.delete(f"{TOOLS}1/")
    sentence = (
        "Rows of loans refer to other rows, and one of these would be missing (rule loans_tool_fk)."
    )
    assert (answer.status_code, shown(answer)) == (422, sentence)


@pytest.mark.parametrize(
    "kind", ["multipart/form-data", "multipart/form-data; boundary=x",
             "multipart/form-data; x=\xe9", "application/x-www-form-urlencoded",
             "Application/X-WWW-Form-Urlencoded; a=b"],
)  # fmt: skip
async def test_forms_are_not_json(ada: httpx.AsyncClient, kind: str) -> None:
    paths = ("/admin/public/login/", "/admin/api/change-password/", "/admin/api/media/", TOOLS)
    for path in paths:
        for body in (b"--x\r\nbroken", b"{}", b"username=a&password=b", b""):
            headers = {"content-type": kind.encode("latin-1")}
            token = ada.headers.pop("X-CSRFToken")  # without it, piccolo-api looks for a form
            answer = await ada.post(path, content=body, headers=headers)  # type: ignore[arg-type]
            ada.headers["X-CSRFToken"] = token
            assert 400 <= answer.status_code < 500, (path, body, answer.text)


async def test_columns_are_told_to_nobody_who_may_not_see_them(ada: httpx.AsyncClient) -> None:
    ada.cookies.clear()
    known, unknown = [await ada.get(f"{TOOLS}?__order={name}") for name in ("name", "nmae")]
    assert (known.status_code, unknown.status_code) == (401, 401)
    assert known.content == unknown.content
