"""A hundred thousand runs: no list, and no page, reads all of them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest

from home.database.engine import Engine
from sync_history import run_lists, runs, source_states
from sync_history.overdue import overdue_of
from sync_history.run_lists import ACTIVE, TO_LOOK_AT, Filters
from sync_history.sources import Run, Source
from tests.conftest import Place, copy_of, in_database, point_at

pytestmark = pytest.mark.any_version

# Of one source nothing but successes, of another nothing for long: what is rare has to be found.
FILL = """
    INSERT INTO sync_history
        (source, status, started_at, completed_at, duration_ms, needs_attention, dry_run, due_at)
    SELECT CASE WHEN n < 100 THEN 'past' ELSE 'source' || n % 5 END,
           CASE WHEN n % 5 > 0 AND n % 97 = 0 THEN 'failed'
                WHEN n % 5 > 0 AND n % 89 = 0 THEN 'partial' ELSE 'succeeded' END,
           at, at, n % 1000, n % 5 > 0 AND n % 97 = 0, n % 5 > 0 AND n % 5003 = 0, at
    FROM (SELECT n, now() - (100000 - n) * interval '5 minutes' AS at
          FROM generate_series(1, 100000) n) AS runs
"""
MOST_BLOCKS = 300  # of some 1,400 that the table has


@pytest.fixture(scope="module")
async def long_template(
    place: Place, template: str, maintenance: asyncpg.Connection
) -> AsyncIterator[str]:
    """A database with many runs, made once."""
    async with copy_of(template, place, maintenance) as url:
        name = url.partition("?")[0].rpartition("/")[2]
        connection = await asyncpg.connect(in_database(place.direct, name))
        await connection.execute("SET session_replication_role = replica")  # no records of these
        await connection.execute(FILL)
        await connection.execute("VACUUM ANALYZE")
        await connection.close()
        yield name


@pytest.fixture
async def url(
    long_template: str, place: Place, maintenance: asyncpg.Connection
) -> AsyncIterator[str]:
    async with copy_of(long_template, place, maintenance) as url:
        point_at(url)
        yield url


@pytest.fixture
def asked(db: Engine, monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """The statements that the database is asked, with their parameters."""
    found: list[tuple[Any, ...]] = []
    run = Engine._run

    async def remember(self: Engine, how: str, sql: str, args: Sequence[Any] = ()) -> Any:
        found.append((sql, *args))
        return await run(self, how, sql, args)

    monkeypatch.setattr(Engine, "_run", remember)
    return found


async def cost_of(db: Engine, asked: list[tuple[Any, ...]]) -> int:
    """Return the blocks that the dearest of the statements reads."""
    statements, costs = list(asked), [0]
    for sql, *args in statements:
        [[plan]] = await db.fetch(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {sql}", *args)
        top = json.loads(plan)[0]["Plan"]
        costs.append(top["Shared Hit Blocks"] + top["Shared Read Blocks"])
    asked.clear()
    return max(costs)


async def nothing(run: Run) -> None:
    """A source with nothing to do."""


TODAY = datetime.now(UTC).date()


@pytest.mark.parametrize(
    "filters",
    [
        Filters(),
        Filters(source="source0"),
        Filters(source="past"),
        Filters(source="nobody"),
        Filters(status="failed"),
        Filters(status=ACTIVE),
        Filters(status=TO_LOOK_AT),
        Filters(source="source0", status="failed"),  # of which there is none
        Filters(source="source1", status="partial"),
        Filters(dry_run=True),
        Filters(source="source0", dry_run=True),
        Filters(source="source2", dry_run=False),
        Filters(status="failed", since=TODAY - timedelta(days=14)),
        Filters(status="succeeded", since=TODAY - timedelta(days=14)),
        Filters(status="cancelled", since=TODAY - timedelta(days=300)),
        Filters(source="past", since=TODAY - timedelta(days=1)),
        Filters(since=TODAY),
    ],
    ids=str,
)
async def test_a_page_of_a_list_reads_what_it_shows(
    db: Engine, asked: list[tuple[Any, ...]], filters: Filters
) -> None:
    first = await run_lists.page_of(db, filters)
    if first.has_older:
        await run_lists.page_of(db, filters, before=first.runs[-1]["id"])
    await run_lists.count_of(db, filters)
    # Of each run that needed attention it is asked whether a good one came after it.
    most = 4_000 if filters.status == TO_LOOK_AT else MOST_BLOCKS
    assert await cost_of(db, asked) < most


async def test_the_sources_are_found_without_their_history(
    db: Engine, asked: list[tuple[Any, ...]]
) -> None:
    names = ["past", *(f"source{n}" for n in range(5)), "new"]
    states = await source_states.states_of(db, {}, names, starts=True)
    assert [len(state.runs) for state in states] == [30] * 6 + [0]
    assert states[0].last_success is not None
    await source_states.is_known(db, "nobody")
    wanted = [Source(name, nothing, timedelta(hours=1)) for name in names]
    assert [each.name for each in await overdue_of(db, wanted)] == ["past"]
    assert await cost_of(db, asked) < 300
    assert len(await runs.newest(names)) == 6
    newest = f"SELECT * FROM sync_history WHERE {runs.NEWEST}"
    assert await cost_of(db, [(newest, names)]) < 100
