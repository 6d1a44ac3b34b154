"""The trail as a file."""

from __future__ import annotations

import csv
import io
import json
import tracemalloc
from datetime import UTC, datetime
from typing import Any

import pytest

from audit import export as exporting
from audit.context import Actor, acting_as
from audit.export import Export, Format
from audit.filters import Filters
from audit.record import record
from audit.rows import COLUMNS
from audit.tables import AuditLog
from home.database.engine import Engine
from home.tables import User
from tests.audit.trails import fill
from tests.conftest import all_given_back

pytestmark = pytest.mark.any_version


async def exported(db: Engine, filters: Filters | None = None, format_: Format = "ndjson") -> str:
    export = Export(db, filters or Filters(), format_)
    return b"".join([chunk async for chunk in export.chunks()]).decode()


async def numbers(db: Engine, **filters: Any) -> list[int]:
    return [
        json.loads(line)["id"] for line in (await exported(db, Filters(**filters))).splitlines()
    ]


async def test_ndjson_holds_every_column_of_every_row_in_order(db: Engine, member: User) -> None:
    before = await AuditLog.count()
    with acting_as(Actor("mel@example.com", member.id, "10.0.0.9", "r1", is_admin_action=True)):
        await record(db, "some.thing", "things", "ü\n'\"", {"n": [1.50, None, 10**30], "ä": "\x1b"})
    await fill(db, 1, 2500)
    rows = [json.loads(line) for line in (await exported(db)).splitlines()]
    assert [row["id"] for row in rows] == sorted(row["id"] for row in rows)
    assert len(rows) == before + 2501
    [row] = [row for row in rows if row["action"] == "some.thing"]
    assert set(row) == set(COLUMNS)
    created_at = datetime.fromisoformat(row.pop("created_at"))
    [stored] = await AuditLog.select().where(AuditLog.action == "some.thing")
    assert created_at == stored["created_at"]
    assert row == {
        "id": stored["id"],
        "actor": "mel@example.com",
        "user_id": member.id,
        "action": "some.thing",
        "resource": "things",
        "resource_id": "ü\n'\"",
        "details": {"n": [1.5, None, 10**30], "ä": "\x1b"},
        "ip_address": "10.0.0.9",
        "request_id": "r1",
        "is_admin_action": True,
    }


async def test_csv_is_neutral_to_spreadsheets(db: Engine) -> None:
    formulas = ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "＝1"]
    harmless = ["a=1", "'=1", "1-1", "", 'quote " comma , line \r\n end', None]
    for text in (*formulas, *harmless):
        await record(db, "some.thing", "things", text)
    rows = list(csv.DictReader(io.StringIO(await exported(db, format_="csv"), newline="")))
    assert list(rows[0]) == list(COLUMNS)
    expected = [f"'{text}" for text in formulas] + [text or "" for text in harmless]
    assert [row["resource_id"] for row in rows] == expected
    assert {row["is_admin_action"] for row in rows} == {"false"}
    assert {row["user_id"] for row in rows} == {""}


async def test_filters_select(db: Engine, member: User) -> None:
    start = await AuditLog.count() + 1
    await fill(db, 1, 6)
    with acting_as(Actor("mel@example.com", member.id)):
        await record(db, "some.thing", "things", 5)
    mine = [start + 6]
    assert await numbers(db, actor="mel@example.com") == mine
    assert await numbers(db, action="some.thing") == mine
    assert await numbers(db, resource="things", resource_id="5") == mine
    assert await numbers(db, user_id=member.id) == mine
    [at] = await AuditLog.select(AuditLog.created_at).where(AuditLog.id == start + 3)
    edges = {"action": "users.update"}
    assert await numbers(db, since=at["created_at"], **edges) == [start + 3, start + 4, start + 5]
    assert await numbers(db, until=at["created_at"], **edges) == [start, start + 1, start + 2]
    nothing = ["nul \0", "\ud800", "x' OR true --", ""]
    assert [await numbers(db, actor=text) for text in nothing] == [[]] * 4


@pytest.mark.parametrize("few", [100_000, 1])
async def test_a_choice_is_found_whole_by_an_index_and_in_steps(
    db: Engine, monkeypatch: pytest.MonkeyPatch, few: int
) -> None:
    monkeypatch.setattr(exporting, "FEW", few)
    monkeypatch.setattr(exporting, "STEP", exporting.STEP.replace("20000", "700"))
    start = await AuditLog.count() + 1
    await fill(db, 1, 2_500)
    with acting_as(Actor("cli:ada", None, "10.9.9.9", "r")):
        await record(db, "some.thing", "things", 5, {"after": {"x": "y" * 50_000}})
    everything = list(range(start, start + 2_500))
    assert await numbers(db, action="users.update") == everything
    assert await numbers(db, column="n") == everything
    assert await numbers(db, ip_address="10.9.9.9", request_id="r") == [start + 2_500]
    assert await numbers(db, column="n", resource_id="77", resource="users") == [start + 76]
    assert await numbers(db, column="nothing") == []


async def test_nothing_to_export_is_an_empty_file(db: Engine) -> None:
    nothing = Filters(action="nothing.happened")
    assert await exported(db, nothing) == ""
    assert await exported(db, nothing, "csv") == ",".join(COLUMNS) + "\r\n"


async def test_dates_far_away_are_exported(db: Engine) -> None:
    for date in ("infinity", "4713-01-01 BC", "294276-12-31"):
        await db.run_ddl(f"INSERT INTO audit_logs (action, created_at) VALUES ('x', '{date}')")
    assert len((await exported(db)).splitlines()) == 3


async def test_rows_that_come_in_meanwhile_are_left_out(db: Engine) -> None:
    await fill(db, 1, 2500)
    export = Export(db, Filters())
    async for _ in export.chunks():
        await fill(db, 1, 1000)
    assert export.rows == 2500


async def test_the_export_itself_is_recorded(db: Engine) -> None:
    await fill(db, 1, 3)
    since = datetime(2020, 1, 1, tzinfo=UTC)
    export = Export(db, Filters(since=since, actor="person2@example.com"), "csv")
    _ = [chunk async for chunk in export.chunks()]
    await export.record()
    [row] = await AuditLog.select().where(AuditLog.action == "audit.export")
    assert row["resource"] == "audit_logs"
    assert json.loads(row["details"]) == {
        "format": "csv",
        "rows": 1,
        "filters": {"since": "2020-01-01T00:00:00+00:00", "actor": "person2@example.com"},
    }


async def test_no_connection_is_held_while_a_client_is_slow(db: Engine) -> None:
    await fill(db, 1, 2500)
    async for _ in Export(db, Filters()).chunks():
        assert await all_given_back(db)


@pytest.mark.direct  # memory is ours, not the pooler's
async def test_memory_does_not_grow_with_the_trail(db: Engine) -> None:
    async def peak_of_exporting() -> int:
        tracemalloc.start()
        try:
            async for _ in Export(db, Filters()).chunks():
                pass
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    await fill(db, 1, 5_000)
    short = await peak_of_exporting()
    await fill(db, 5_001, 30_000)
    assert await peak_of_exporting() < 1.3 * short
