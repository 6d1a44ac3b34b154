"""Lists of the back office as CSV, and an end to lists."""

from __future__ import annotations

import csv
import io

import httpx
import pytest

from audit.tables import AuditLog
from home.database.engine import Engine
from home.tables import Session, User
from tests.conftest import PASSWORD, sign_in

pytestmark = pytest.mark.any_version

EXPORT = "/admin/export/users.csv"
FORMULA = '=HYPERLINK("https://evil.example","look")'


@pytest.fixture
async def ada(client: httpx.AsyncClient, administrator: User) -> httpx.AsyncClient:
    """Ada's browser."""
    await sign_in(client, "ada@example.com")
    return client


def lines_of(answer: httpx.Response) -> list[dict[str, str]]:
    assert answer.status_code == 200, answer.text
    return list(csv.DictReader(io.StringIO(answer.text)))


async def test_the_whole_list_without_formulas(ada: httpx.AsyncClient, db: Engine) -> None:
    await db.execute(
        "INSERT INTO users (email, display_name, password_hash, is_approved)"
        " SELECT 'p' || n || '@example.com', $1, '', n % 2 = 0 FROM generate_series(1, 250) n",
        FORMULA,
    )
    answer = await ada.get(EXPORT)
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert answer.headers["content-disposition"] == 'attachment; filename="users.csv"'
    assert answer.headers["cache-control"] == "no-store"
    lines = lines_of(answer)
    assert [int(line["id"]) for line in lines] == sorted(int(line["id"]) for line in lines)
    assert len({line["id"] for line in lines}) == 251
    assert {line["display_name"] for line in lines} == {"", f"'{FORMULA}"}
    assert {line["password_hash"] for line in lines} == {""}


async def test_filters_and_order_are_those_of_the_list(
    ada: httpx.AsyncClient, member: User
) -> None:
    await User.create_user("eve@example.com", PASSWORD, display_name="Eve")
    lines = lines_of(await ada.get(f"{EXPORT}?is_approved=true&__order=-email&__page_size=1"))
    assert [line["email"] for line in lines] == ["mel@example.com", "ada@example.com"]
    assert [line["is_admin"] for line in lines] == ["false", "true"]
    assert (await ada.get(f"{EXPORT}?email=nobody")).text == ""


async def test_an_export_is_on_the_trail(ada: httpx.AsyncClient, administrator: User) -> None:
    await ada.get(f"{EXPORT}?is_admin=true")
    [row] = await AuditLog.select().where(AuditLog.action == "users.export")
    assert (row["actor"], row["user_id"]) == ("ada@example.com", administrator.id)
    assert row["resource"] == "users"
    assert row["is_admin_action"] is True
    assert '["is_admin", "true"]' in row["details"]


async def test_only_who_may_see_the_list_gets_it(
    client: httpx.AsyncClient, administrator: User, member: User
) -> None:
    assert (await client.get(EXPORT)).status_code == 401
    await sign_in(client, "mel@example.com")
    assert (await client.get(EXPORT)).status_code == 401
    await User.create_user("olga@example.com", PASSWORD, is_admin=True, is_approved=True)
    await sign_in(client, "olga@example.com")
    listed = await client.get("/admin/api/tables/users/")
    assert (await client.get(EXPORT)).status_code == listed.status_code
    assert (await client.get("/admin/export/nowhere.csv")).status_code == 404
    assert not await AuditLog.exists().where(AuditLog.action == "nowhere.export")


async def test_a_bad_filter_is_refused_as_in_the_list(ada: httpx.AsyncClient) -> None:
    for query in ("nothing=1", "id=x", "id__operator=like"):
        listed = await ada.get(f"/admin/api/tables/users/?{query}")
        assert listed.status_code >= 400, query
        assert (await ada.get(f"{EXPORT}?{query}")).status_code == listed.status_code


async def test_too_many_rows_are_refused(
    ada: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    await User.create_user("eve@example.com", PASSWORD)
    monkeypatch.setattr("home.backoffice.csv_export.MOST_ROWS", 1)
    answer = await ada.get(EXPORT)
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "too_many_rows")


@pytest.mark.parametrize(
    "query",
    ["__page_size=101", "__page_size=1000", "__page_size=5&__page_size=1000",
     "__page_size[]=1000", "__page_size=x", "__page_size=-1"],
)  # fmt: skip
async def test_a_page_has_an_end(ada: httpx.AsyncClient, query: str) -> None:
    assert (await ada.get("/admin/api/tables/users/?__page_size=100")).status_code == 200
    assert (await ada.get(f"/admin/api/tables/users/?{query}")).status_code in (400, 422)


@pytest.mark.parametrize("query", ["", "?limit=101", "?limit=ALL", "?limit=-1", "?search=a"])
async def test_so_have_the_names_that_a_foreign_key_offers(
    ada: httpx.AsyncClient, query: str
) -> None:
    ids = "/admin/api/tables/users/ids/"
    assert (await ada.get(f"{ids}?limit=100&search=ada")).status_code == 200
    assert (await ada.get(ids + query)).status_code in (400, 422)


@pytest.mark.parametrize("name", ["a%0D%0AX-Evil:1", "%0A", "%C3%BC", "", "a" * 101])
async def test_what_a_client_names_does_not_become_a_header(
    ada: httpx.AsyncClient, name: str
) -> None:
    query = "/admin/api/tables/users/?__range_header=true&__range_header_name="
    assert (await ada.get(f"{query}people")).headers["content-range"] == "people 0-0/1"
    answer = await ada.get(query + name)
    assert answer.status_code == 422
    assert "content-range" not in answer.headers


async def test_what_the_back_office_says_is_stored_nowhere(ada: httpx.AsyncClient) -> None:
    [session] = await Session.select(Session.sid)
    paths = ["", "count/", "schema/", "new/", "ids/?limit=5", "1/", "999/"]
    for path in [
        *(f"tables/users/{path}" for path in paths),
        "user/",
        f"tables/sessions/{session['sid']}/",
    ]:
        answer = await ada.get(f"/admin/api/{path}")
        assert answer.headers["cache-control"] == "no-store", path
