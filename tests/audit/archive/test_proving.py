"""Rows that were archived are proven to outsiders, and are part of the evidence."""

from __future__ import annotations

from pathlib import Path

import pytest

from audit.archive.moving import archive_step
from audit.archive.reading import Archive
from audit.cli import CommandError
from audit.erase import erase
from audit.evidence import write_evidence
from audit.exported import exported
from audit.filters import Filters
from audit.proofs import CannotProve, from_json, prove, to_json
from audit.seals import seal
from audit.verify import NoArchive, exported_seals
from home.database.engine import Engine
from tests.audit.archive.trails import TOMORROW, nasty
from tests.audit.test_erase import ERASERS, life_of_ada
from tests.audit.test_second_verifier import INTACT, said_of
from tests.audit.trails import KEYS, fill, seal_three_times

pytestmark = pytest.mark.any_version
NO_FILTERS = Filters()


async def archived(db: Engine, archive: Archive) -> None:
    await nasty(db)
    await seal_three_times(db)
    await archive_step(archive, KEYS, TOMORROW)


async def test_each_row_is_proven(db: Engine, archive: Archive, tmp_path: Path) -> None:
    await archived(db, archive)
    file = tmp_path / "seals"
    file.write_bytes(b"".join([chunk async for chunk in exported_seals(db)]))
    seals = {each.seal.id: each for each in exported(file)}
    ids = [row["id"] async for rows, _ in archive.stream(NO_FILTERS, 0, 2**62) for row in rows]
    for id_ in ids:
        proof = await prove(db, id_, archive)
        again = from_json(to_json(proof))
        assert again.row[0] == id_
        again.check(seals[again.seal.seal.id])
    missing = next(id_ for id_ in range(1, ids[-1]) if id_ not in ids)
    with pytest.raises(CannotProve, match="there is no row"):
        await prove(db, missing, archive)
    with pytest.raises(NoArchive):
        await prove(db, ids[0])


async def test_the_second_verifier_agrees(db: Engine, archive: Archive, tmp_path: Path) -> None:
    ada, _ = await life_of_ada(db)
    await archived(db, archive)
    await erase(db, KEYS, ERASERS, ada, "asked", archive=archive)
    await fill(db, 500, 510)
    await seal(db, KEYS)
    with pytest.raises((NoArchive, CommandError)):
        await write_evidence(db, tmp_path / "none")
    await write_evidence(db, tmp_path / "all", archive=archive)
    assert said_of(tmp_path / "all") == INTACT
    rows = tmp_path / "all" / "rows.ndjson"
    lines = rows.read_text().splitlines(keepends=True)
    rows.write_text("".join([lines[0].replace("users", "user", 1), *lines[1:]]))
    assert said_of(tmp_path / "all")[0] == "archive_altered"
    rows.write_text("".join(lines[1:]))
    assert said_of(tmp_path / "all")[0] == "archive_altered"
