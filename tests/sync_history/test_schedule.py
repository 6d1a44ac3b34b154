"""When a schedule is due, also where clocks change; which make no sense."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from home.database.engine import Engine
from home.tables import User
from sync_history import runs
from sync_history.schedule import Schedule
from sync_history.sources import Function, Run, Source, source, sources
from tests.conftest import enter
from tests.sync_history.conftest import stored

pytestmark = pytest.mark.any_version

BERLIN = "Europe/Berlin"
MINUTE = timedelta(minutes=1)


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def due_times(schedule: Schedule, since: str, until: str) -> list[str]:
    """The due times that somebody sees who asks every 17 minutes, forwards and backwards."""
    now, end = utc(since), utc(until)
    before = schedule.last_due(now)
    last, following = set(), set()
    while now < end:
        found = schedule.last_due(now)
        assert before <= found <= now < schedule.next_due(now)
        before = found
        assert schedule.last_due(schedule.next_due(now)) == schedule.next_due(now)
        last.add(found)
        following.add(schedule.next_due(now))
        now += 17 * MINUTE
    both = sorted(each for each in last | following if utc(since) <= each <= utc(until))
    assert {each for each in both if each < end - 17 * MINUTE} <= last & following | {both[0]}
    return [f"{each:%d %H:%M}" for each in both]


@pytest.mark.parametrize(
    ("expression", "since", "until", "expected"),
    [
        # The hour from 2 to 3 is skipped on 29 March, at 01:00 UTC, and comes twice on 25 October.
        ("30 2 * * *", "2026-03-28", "2026-03-30 12:00", ["28 01:30", "29 01:00", "30 00:30"]),
        ("0 3 * * *", "2026-03-28 00:00", "2026-03-30 12:00", ["28 02:00", "29 01:00", "30 01:00"]),
        ("30 2 * * *", "2026-10-24", "2026-10-27 00:00", ["24 00:30", "25 00:30", "26 01:30"]),
        ("30 1,2 * * *", "2026-10-25 00:00", "2026-10-26 00:00", ["25 00:30"]),
        (
            "*/30 * * * *", "2026-10-25 00:00", "2026-10-25 02:00",
            ["25 00:00", "25 00:30", "25 01:00", "25 01:30", "25 02:00"],
        ),
        (
            "0 3 * * mon-fri", "2026-11-26 00:00", "2026-12-01 00:00",
            ["26 02:00", "27 02:00", "30 02:00"],
        ),
    ],
)  # fmt: skip
def test_a_time_comes_once_also_where_clocks_change(
    expression: str, since: str, until: str, expected: list[str]
) -> None:
    assert due_times(Schedule(expression, BERLIN), since, until) == expected


def test_rare_times_are_found() -> None:
    schedule = Schedule("0 0 29 2 *")
    assert schedule.last_due(utc("2027-06-01 00:00")) == utc("2024-02-29 00:00")
    assert schedule.next_due(utc("2096-03-01 00:00")) == utc("2104-02-29 00:00")
    assert schedule.last_due(utc("2104-02-28 00:00")) == utc("2096-02-29 00:00")


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"schedule": "0 3 * *"}, "'0 3 \\* \\*' needs five fields"),
        ({"schedule": "0 0 3 * * *"}, "needs five fields"),
        ({"schedule": "@daily"}, "needs five fields"),
        ({"schedule": "61 3 * * *"}, "'61 3 \\* \\* \\*': bad minute"),
        ({"schedule": "0 0 31 2 *"}, "bad day-of-month"),
        ({"schedule": "0 0 */9 2 mon#5"}, "is never due: there is no such day"),
        ({"schedule": "0 3 * * *", "zone": "Mars/Utopia"}, "zone='Mars/Utopia' is unknown"),
        ({"schedule": "0 3 * * *", "zone": "../etc/passwd"}, "is unknown"),
        ({"schedule": "0 3 * * *", "zone": ""}, "is unknown"),
        ({"schedule": "0 3 * * *", "every": MINUTE}, "every=... or schedule=..., not both"),
        ({"zone": BERLIN}, "zone=... belongs to schedule=..."),
        ({"retries": 11}, "retries=... is from 0 to 10"),
        ({"retries": -1}, "retries=... is from 0 to 10"),
    ],
)
def test_what_makes_no_sense_is_refused(options: dict[str, str], problem: str) -> None:
    with pytest.raises(ValueError, match=f"^source crm: .*{problem}"):
        source("crm", **options)  # type: ignore[arg-type]


def test_times_of_a_period_are_counted_from_midnight_utc() -> None:
    async def nothing(run: Run) -> None: ...

    now = utc("2026-03-01 12:34:56")
    hourly = Source("x", nothing, timedelta(hours=1))
    assert hourly.last_due(now) == utc("2026-03-01 12:00")
    assert hourly.next_due(now) == utc("2026-03-01 13:00")
    assert not Source("x", nothing).is_automatic


async def test_one_run_for_each_time_of_a_schedule(
    registered: Callable[[Function], None], db: Engine
) -> None:
    async def nothing(run: Run) -> None: ...

    source("nightly", schedule="0 3 * * mon-fri", zone=BERLIN)(nothing)
    nightly = sources()["nightly"]
    started = await runs.start_due(db, nightly)
    assert started is not None
    run = await stored(started.id)
    assert run.due_at == nightly.last_due(run.created_at)
    await runs.cancel(db, run.id)
    assert await runs.start_due(db, nightly) is None


async def test_people_see_when_it_is_due(
    client: httpx.AsyncClient, registered: Callable[[Function], None], administrator: User
) -> None:
    async def nothing(run: Run) -> None: ...

    source("nightly", schedule="0 3 * * mon-fri", zone=BERLIN)(nothing)
    source("hourly", every=timedelta(hours=1))(nothing)
    await enter(client, administrator.email)
    page = (await client.get("/sync/nightly")).text
    assert "0 3 * * mon-fri, Europe/Berlin" in page
    due = sources()["nightly"].next_due(datetime.now(UTC))
    assert f'datetime="{due.isoformat()}"' in page
    assert "every 1 h 0 min" in (await client.get("/sync/hourly")).text
    hourly, nightly = (await client.get("/api/sync")).json()["sources"]
    assert (nightly["schedule"], nightly["zone"]) == ("0 3 * * mon-fri", BERLIN)
    assert (nightly["every_seconds"], hourly["every_seconds"]) == (None, 3600)
    assert (hourly["schedule"], hourly["zone"]) == (None, None)
