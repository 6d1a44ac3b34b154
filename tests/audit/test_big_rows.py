"""Rows of two megabytes, as a table with documents in it makes them: memory holds a few of them,
however many there are."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from audit.export import Export, Format
from audit.filters import Filters
from audit.history import history_of
from audit.paging import INLINE_BYTES, PAGE
from audit.seals import seal
from audit.verify import verify
from home.database.engine import Engine
from tests.audit.trails import KEYS, fill, tamper

pytestmark = [pytest.mark.any_version, pytest.mark.direct]  # memory is ours, not the pooler's
ROWS, SIZE = 100, 2_000_000
FILL = """
    INSERT INTO audit_logs (actor, action, resource, resource_id, details)
    SELECT 'ada@example.com', 'documents.insert', 'documents', '7',
           jsonb_build_object('after', jsonb_build_object('text', n || repeat('x', $2)))
    FROM generate_series(1, $1::int) n
"""


@pytest.fixture
async def db(db: Engine) -> Engine:
    """A trail of large rows with a small one between them now and then."""
    for _ in range(10):
        await db.execute(FILL, ROWS // 10, SIZE)
        await db.execute(FILL, 1, 10)
    return db


@contextmanager
def within_a_few_rows() -> Iterator[None]:
    tracemalloc.start()
    try:
        yield
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 12 * SIZE


async def test_sealing_and_verifying(db: Engine) -> None:
    with within_a_few_rows():
        assert (await seal(db, KEYS)).rows == ROWS + 10
    with within_a_few_rows():
        found = await verify(db, KEYS)
    assert (found.problem, found.verified) == (None, ROWS + 10)
    change = (
        "UPDATE audit_logs SET details = jsonb_set(details, '{after, text}', '1') WHERE id = 57"
    )
    await tamper(db, change)
    problem = (await verify(db, KEYS)).problem
    assert problem is not None
    assert (problem.kind, problem.row) == ("altered", 57)


@pytest.mark.parametrize("format_", ["ndjson", "csv"])
async def test_an_export_holds_all_of_them_in_order(db: Engine, format_: Format) -> None:
    export, total, lines = Export(db, Filters(), format_), 0, 0
    with within_a_few_rows():
        async for chunk in export.chunks():
            total += len(chunk)
            lines += chunk.count(b"\n")
    assert (export.rows, lines) == (ROWS + 10, ROWS + 10 + (format_ == "csv"))
    assert total > ROWS * SIZE


async def test_the_history_of_a_record(db: Engine) -> None:
    ids = []
    with within_a_few_rows():
        async for page in history_of(db, "documents", "7"):
            ids += [row["id"] for row in page]
    assert ids == sorted(ids)
    assert len(ids) == ROWS + 10


async def test_rows_just_below_the_limit_come_in_pages(db: Engine) -> None:
    """So many rows as a page has, each as large as it may be."""
    await db.execute(FILL, PAGE, INLINE_BYTES - 100)
    pages = [len(page) async for page in history_of(db, "documents", "7")]
    assert sum(pages) == ROWS + 10 + PAGE
    assert max(pages) > PAGE // 2


async def test_a_large_actor_is_as_whole_as_large_details(db: Engine) -> None:
    await db.execute("INSERT INTO audit_logs (action, actor) VALUES ('x', repeat('y', 50000))")
    await fill(db, 1, 2)
    chunks = [chunk async for chunk in Export(db, Filters(action="x")).chunks()]
    assert b"".join(chunks).count(b"y") == 50_000
    actor = "y" * 50_000
    chunks = [chunk async for chunk in Export(db, Filters(actor=actor)).chunks()]
    assert len(chunks) == 1
