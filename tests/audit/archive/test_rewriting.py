"""Rows of a file are changed, and the seals above them still hold."""

from __future__ import annotations

from hashlib import sha256
from typing import Any

import pytest

from audit.archive.moving import archive_step
from audit.archive.reading import Archive
from audit.archive.rewriting import Sought, find_rows, replace_rows, rows_of
from audit.digests import WHAT, WHO, key_of, who_digest
from audit.prune import NotAsSealed
from audit.record import record
from audit.removals import NOW, Removal, packed, store
from audit.seals import seal
from audit.verify import verify
from home.database.engine import Engine
from tests.audit.archive.trails import TOMORROW, nasty
from tests.audit.trails import KEYS, seal_three_times

pytestmark = pytest.mark.any_version


async def sign(db: Engine, ids: list[int]) -> None:
    entries = packed((id_, WHO) for id_ in ids)
    removal = Removal(
        "erase", ids[0], ids[-1], len(ids), None, None, sha256(entries).hexdigest(), "erased-1",
        "ada", "asked", await db.fetchval(NOW), KEYS.newest,
    )  # fmt: skip
    await store(db, KEYS, removal, entries)


def erased(row: dict[str, Any]) -> dict[str, object]:
    digest = who_digest(row["salt"], row["actor"], row["ip_address"], row["request_id"])
    gone = {"user_id": None, "ip_address": None, "request_id": None, "who_digest": digest}
    return {"actor": "erased-1", "salt": key_of(WHAT, row["salt"]), **gone}


async def test_a_person_is_found_and_erased(db: Engine, archive: Archive) -> None:
    await nasty(db)
    await seal_three_times(db)
    await archive_step(archive, KEYS, TOMORROW)
    [before] = archive.store.names()
    async with db.transaction(), db.connection() as connection:
        found = await find_rows(archive, connection, Sought(names=["PERSON7@EXAMPLE"]))
        [(file, ids)] = found.items()
        rows = await rows_of(archive, file, ids)
        assert [row["actor"] for row in rows] == ["person7@example.com"]
        await sign(db, ids)
        changed = {row["id"]: erased(row) for row in rows}
        assert await replace_rows(archive, KEYS, connection, file, changed) == before
    report = await verify(db, KEYS, archive=archive.following())
    assert (report.problem, report.erased) == (None, 1)
    found_row = await archive.row(ids[0])
    assert found_row is not None
    assert (found_row["actor"], found_row["ip_address"]) == ("erased-1", None)
    assert len(archive.store.names()) == 2
    await archive_step(archive, KEYS, TOMORROW)
    assert before not in archive.store.names()
    assert len(archive.store.names()) == 1


@pytest.mark.parametrize(
    ("sought", "ids"),
    [
        (Sought(names=['SAY "HI"']), [31, 33]),
        (Sought(names=["ÄDA"]), [32]),
        (Sought(user_id=77, tables=["things"]), [33]),
        (Sought(user_id=77, tables=["others"]), []),
        (Sought(records=[("things", "k-1")]), [31, 32, 33]),
        (Sought(), []),
    ],
)
async def test_rows_are_found_by_any_of_what_is_sought(
    db: Engine, archive: Archive, sought: Sought, ids: list[int]
) -> None:
    await seal_three_times(db)
    details: list[dict[str, Any]] = [
        {"after": {"t": 'they say "hi" there'}},
        {"a": "x äda"},
        {"b": ['Say "Hi"', 77]},
    ]
    for each in details:
        await record(db, "things.update", "things", "k-1", each)
    await seal(db, KEYS)
    await archive_step(archive, KEYS, TOMORROW)
    async with db.connection() as connection:
        found = await find_rows(archive, connection, sought)
    first = await db.fetchval("SELECT min(last_id) FROM audit_archives") - 2
    assert [id_ - first + 31 for rows in found.values() for id_ in rows] == ids


async def test_what_nobody_signed_or_differs_is_refused(db: Engine, archive: Archive) -> None:
    await seal_three_times(db)
    await archive_step(archive, KEYS, TOMORROW)
    for change in ({"actor": "x"}, None):
        with pytest.raises(NotAsSealed):
            async with db.transaction(), db.connection() as connection:
                sought = Sought(user_id=5, records=[("users", "3")])
                [(file, [id_])] = (await find_rows(archive, connection, sought)).items()
                [row] = await rows_of(archive, file, [id_])
                new = change or erased(row)
                await replace_rows(archive, KEYS, connection, file, {id_: new})
    assert (await verify(db, KEYS, archive=archive.following())).problem is None
