"""A person is erased from what was archived, too."""

from __future__ import annotations

import pytest

from audit.archive.moving import archive_step
from audit.archive.reading import Archive
from audit.context import Actor, acting_as
from audit.erase import erase, would_erase
from audit.filters import Filters
from audit.record import record
from audit.seals import seal
from audit.tables import AuditRemoval
from audit.verify import NoArchive, verify
from home.database.engine import Engine
from tests.audit.archive.trails import TOMORROW
from tests.audit.test_erase import ADA, ERASERS, IP, SECRETS, dump, life_of_ada
from tests.audit.trails import KEYS

pytestmark = pytest.mark.any_version


async def archived(archive: Archive) -> str:
    """All that is in the archive, as text."""
    found = [row async for rows, _ in archive.stream(Filters(), 0, 2**62) for row in rows]
    return "\n".join(str(dict(row)) for row in found)


def left(text: str) -> list[str]:
    text = text.replace(f"n{ADA}", "").replace("Ada Lovelace II", "").lower()
    return [secret for secret in SECRETS if secret.lower() in text]


async def test_nothing_of_a_person_is_left_anywhere(db: Engine, archive: Archive) -> None:
    ada, _ = await life_of_ada(db)
    await seal(db, KEYS)
    await archive_step(archive, KEYS, TOMORROW)
    with acting_as(Actor(ADA, ada, IP)):
        await record(db, "report.made", "reports", 10)
    assert left(await archived(archive)) == SECRETS
    planned = await would_erase(db, ERASERS, ada, archive)
    assert 0 < planned.archived < planned.rows
    done = await erase(db, KEYS, ERASERS, ada, "asked", archive=archive)
    assert left(await archived(archive)) == left(await dump(db)) == []
    assert len(archive.store.names()) == 1, "the old file is gone"
    assert done.pseudonym in await archived(archive)
    assert done.archived == planned.archived
    await seal(db, KEYS)
    report = await verify(db, KEYS, archive=archive.following())
    assert (report.problem, report.erased) == (None, done.rows)
    [_, removal] = await AuditRemoval.select().order_by(AuditRemoval.id)
    assert (removal["kind"], removal["row_count"]) == ("erase", done.rows)


async def test_what_was_archived_is_not_forgotten(db: Engine, archive: Archive) -> None:
    """Whoever does not say where the archive is erases nothing."""
    ada, _ = await life_of_ada(db)
    await seal(db, KEYS)
    await archive_step(archive, KEYS, TOMORROW)
    before = await dump(db)
    with pytest.raises(NoArchive):
        await would_erase(db, ERASERS, ada)
    with pytest.raises(NoArchive):
        await erase(db, KEYS, ERASERS, ada, "asked")
    assert await dump(db) == before


async def test_an_account_whose_whole_trail_was_archived_is_known(
    db: Engine, archive: Archive
) -> None:
    ada, _ = await life_of_ada(db)
    await db.execute("DELETE FROM users WHERE id = $1", ada)
    await seal(db, KEYS)
    await archive_step(archive, KEYS, TOMORROW)
    done = await erase(db, KEYS, ERASERS, ada, "asked", archive=archive)
    assert left(await archived(archive)) == left(await dump(db)) == []
    assert done.names == ["ada.byron@example.com", ADA]
