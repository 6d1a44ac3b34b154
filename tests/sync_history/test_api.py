"""`/api/sync` and the back office's forms: administrators start and cancel runs, others do not."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import httpx
import pytest
from starlette.applications import Starlette

from audit.tables import AuditLog
from home.tables import User
from sync_history import sources as registry
from sync_history.sources import Run, SyncFailed, source
from sync_history.tables import SyncRun
from tests.conftest import browser, enter, sign_in
from tests.sync_history.conftest import until

pytestmark = pytest.mark.any_version


@pytest.fixture(autouse=True)
def crm_and_payroll(monkeypatch: pytest.MonkeyPatch) -> None:
    """One source that ends at once, and one that does not."""
    monkeypatch.setattr(registry, "_registry", {})

    @source("crm")
    async def crm(run: Run) -> None:
        if run.dry_run and not run.force:
            raise SyncFailed("It has no dry run.")
        run.synced(3)

    @source("payroll")
    async def payroll(run: Run) -> None:
        await asyncio.sleep(60)


@pytest.fixture
async def ada(app: Starlette, administrator: User) -> AsyncIterator[httpx.AsyncClient]:
    """Ada's program, signed in."""
    async with browser(app) as ada:
        await enter(ada, administrator.email)
        yield ada


async def test_an_administrator_starts_a_source_and_watches_it(
    ada: httpx.AsyncClient, administrator: User
) -> None:
    answer = await ada.post("/api/sync/crm")
    assert answer.status_code == 202
    run = answer.json()["run"]
    assert answer.headers["location"] == f"/api/sync/runs/{run['id']}"
    assert (run["source"], run["trigger_type"]) == ("crm", "manual")
    assert run["triggered_by"] == administrator.id
    await until(run["id"], "succeeded")
    run = (await ada.get(answer.headers["location"])).json()["run"]
    assert (run["items_synced"], run["error_details"]) == (3, None)
    assert "claim" not in run
    events = await AuditLog.select().where(AuditLog.resource == "sync_history")
    assert {(row["actor"], row["user_id"]) for row in events} == {
        ("ada@example.com", administrator.id)
    }


async def test_options_reach_the_source(ada: httpx.AsyncClient) -> None:
    answer = await ada.post("/api/sync/crm", json={"dry_run": True})
    run = await until(answer.json()["run"]["id"], "failed")
    assert run.error_message == "It has no dry run."
    answer = await ada.post("/api/sync/crm", json={"dry_run": True, "force": True})
    run = await until(answer.json()["run"]["id"], "succeeded")
    assert (run.dry_run, run.force) == (True, True)


async def test_the_list_of_sources_says_how_each_did_last(ada: httpx.AsyncClient) -> None:
    for _ in range(2):
        id_ = (await ada.post("/api/sync/crm")).json()["run"]["id"]
        await until(id_, "succeeded")
    crm, payroll = (await ada.get("/api/sync")).json()["sources"]
    assert (crm["name"], crm["every_seconds"], crm["last_run"]["id"]) == ("crm", None, id_)
    assert (payroll["name"], payroll["last_run"]) == ("payroll", None)


async def test_an_active_source_is_not_started_again_but_cancelled(
    ada: httpx.AsyncClient,
) -> None:
    id_ = (await ada.post("/api/sync/payroll")).json()["run"]["id"]
    again = await ada.post("/api/sync/payroll")
    assert again.status_code == 409
    assert again.json()["error"]["message"].startswith(f"Run {id_} of payroll is not over yet.")
    answer = await ada.post(f"/api/sync/runs/{id_}/cancel")
    assert answer.status_code == 202
    await until(id_, "cancelled")
    answer = await ada.post(f"/api/sync/runs/{id_}/cancel")
    assert (answer.status_code, answer.json()["error"]["message"]) == (
        409,
        f"Run {id_} is over: cancelled.",
    )


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/api/sync/nothing", 404),
        ("POST", "/api/sync/%00", 404),
        ("POST", "/api/sync/" + "x" * 2000, 404),
        ("GET", "/api/sync/runs/0", 404),
        ("GET", "/api/sync/runs/-1", 404),
        ("GET", "/api/sync/runs/crm", 404),
        ("GET", "/api/sync/runs/2147483648", 404),
        ("GET", "/api/sync/runs/" + "9" * 40, 404),
        ("GET", "/api/sync/runs/1e3", 404),
        ("POST", "/api/sync/runs/1/cancel", 404),
        ("POST", "/api/sync/runs/x/cancel", 404),
        ("DELETE", "/api/sync/runs/1", 405),
    ],
)
async def test_what_is_not_there(
    ada: httpx.AsyncClient, method: str, path: str, status: int
) -> None:
    answer = await ada.request(method, path)
    assert answer.status_code == status, answer.text
    assert set(answer.json()["error"]) == {"code", "message"}


@pytest.mark.parametrize(
    "body", ["[1]", "null", '"x"', "{", '{"dry_run": "yes"}', '{"dry_run": 1}', '{"x": true}',
             '{"force": null}', "[" * 100_000, "\ufeff{}", '{"dry_run": NaN}'],
)  # fmt: skip
async def test_options_that_make_no_sense_start_nothing(ada: httpx.AsyncClient, body: str) -> None:
    answer = await ada.post("/api/sync/crm", content=body)
    assert answer.status_code == 422, answer.text
    assert await SyncRun.count() == 0


async def test_a_request_without_the_csrf_token_starts_nothing(ada: httpx.AsyncClient) -> None:
    del ada.headers["x-csrf-token"]
    assert (await ada.post("/api/sync/crm")).status_code == 403
    assert (await ada.post("/api/sync/runs/1/cancel")).status_code == 403
    assert await SyncRun.count() == 0


async def test_members_and_strangers_see_nothing_and_start_nothing(
    client: httpx.AsyncClient, member: User
) -> None:
    for expected in (401, 403):
        assert (await client.get("/api/sync")).status_code == expected
        assert (await client.get("/api/sync/runs/1")).status_code == expected
        assert (await client.post("/api/sync/crm")).status_code == expected
        assert (await client.post("/api/sync/runs/1/cancel")).status_code == expected
        await enter(client, member.email)
    assert await SyncRun.count() == 0


# The back office ------------------------------------------------------------------------------


async def submit(client: httpx.AsyncClient, form: str, values: object) -> httpx.Response:
    return await client.post(f"/admin/api/forms/{form}/", content=json.dumps(values))


async def test_a_form_starts_a_source_and_another_cancels_it(
    client: httpx.AsyncClient, administrator: User
) -> None:
    await sign_in(client, "ada@example.com")
    answer = await submit(client, "start-a-sync", {"source": " payroll "})
    assert answer.status_code == 200, answer.text
    [run] = await SyncRun.objects()
    said = answer.json()["custom_form_success"]
    assert said == f"Run {run.id} of payroll has begun: see the list of sync runs."
    await until(run.id, "running")
    answer = await submit(client, "cancel-a-run", {"run": run.id})
    assert answer.json()["custom_form_success"] == f"Run {run.id} of payroll is cancelled."
    run = await until(run.id, "cancelled")
    assert (run.completed_at - run.cancel_requested_at).total_seconds() < 2
    assert (run.triggered_by, run.cancel_requested_by) == (administrator.id, administrator.id)
    begun = AuditLog.select().where(AuditLog.action == "sync_history.insert")
    assert [(row["actor"], row["is_admin_action"]) for row in await begun] == [
        ("ada@example.com", True)
    ]


@pytest.mark.parametrize(
    ("form", "values", "said"),
    [
        ("start-a-sync", {"source": "nothing"}, "There is no source of this name."),
        ("start-a-sync", {"source": "\x00"}, "There is no source of this name."),
        ("start-a-sync", {"source": "x" * 101}, "at most 100 characters"),
        ("start-a-sync", {}, "Field required"),
        ("start-a-sync", [1], "Send a JSON object."),
        ("start-a-sync", None, "Send a JSON object."),
        ("cancel-a-run", {"run": 4}, "There is no such run."),
        ("cancel-a-run", {"run": 2**40}, "There is no such run."),
        ("cancel-a-run", {"run": 2**70}, "A number is too large."),
        ("cancel-a-run", {"run": "x"}, "valid integer"),
    ],
)
async def test_a_form_says_what_is_wrong(
    client: httpx.AsyncClient, administrator: User, form: str, values: object, said: str
) -> None:
    await sign_in(client, "ada@example.com")
    answer = await submit(client, form, values)
    assert answer.status_code == 422
    assert said in json.dumps(answer.json())
    assert await SyncRun.count() == 0


async def test_forms_are_for_administrators(client: httpx.AsyncClient, member: User) -> None:
    for _ in range(2):
        answer = await submit(client, "start-a-sync", {"source": "crm"})
        assert answer.status_code in (401, 403), answer.text
        await sign_in(client, "mel@example.com")
    assert await SyncRun.count() == 0


async def test_the_list_shows_the_newest_first_and_cannot_be_changed(
    client: httpx.AsyncClient, administrator: User
) -> None:
    await sign_in(client, "ada@example.com")
    for number in (1, 2, 3):
        await SyncRun(source="crm", items_synced=number).save()
    table = "/admin/api/tables/sync_history/"
    [order] = (await client.get(f"{table}schema/")).json()["extra"]["order_by"]
    assert order == {"column": "id", "ascending": False}
    rows = (await client.get(table, params={"__order": "-id"})).json()["rows"]
    assert [row["items_synced"] for row in rows] == [3, 2, 1]
    id_ = rows[0]["id"]
    for answer in (
        await client.patch(f"{table}{id_}/", json={"status": "succeeded"}),
        await client.delete(f"{table}{id_}/"),
        await client.post(table, json={"source": "crm"}),
    ):
        assert answer.status_code == 403
    assert await SyncRun.count() == 3
