"""Sealing: every row, once, whatever else is going on."""

from __future__ import annotations

import asyncio
import hmac
import random
import tracemalloc
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

import asyncpg
import pytest

from audit import merkle
from audit.digests import WHAT, WHO, Leaf, Seal, SealKeys, pack, root_of
from audit.record import record
from audit.sealing import seal_when_due
from audit.seals import AT_ONCE, OtherKey, Sealed, SealingDelayed, leaf_pages, seal
from audit.tables import AuditLog, AuditSeal
from audit.verify import verify
from home.database.engine import Engine
from home.tables import User
from tests.audit.trails import KEY, KEYS, fill, seal_three_times, skip_an_id, tamper

WRITE = "INSERT INTO audit_logs (action) VALUES ('slow.write')"


@asynccontextmanager
async def another_session(db: Engine) -> AsyncIterator[Any]:
    connection = await db.get_new_connection()
    yield connection
    await connection.close()


async def seals() -> list[tuple[Any, ...]]:
    columns = (AuditSeal.id, AuditSeal.first_id, AuditSeal.last_id, AuditSeal.row_count)
    return [tuple(row.values()) for row in await AuditSeal.select(*columns).order_by(AuditSeal.id)]


def test_digests_are_as_they_always_were() -> None:
    """Else seals of earlier releases would not verify. docs/seal-format.md has the rules."""
    salt, moment = bytes(range(16)), b"\0\3" + b"\0" * 6
    plain = (7, "a.b", "ü", False, moment)
    leaf = Leaf.of((*plain, 'Ada "A"\n', None, "r", None, '{"n": 1.50}', salt, None, None))
    key_of_who, key_of_what = sha256(b"who" + salt).digest(), sha256(b"what" + salt).digest()
    who = sha256(key_of_who + b'["Ada \\"A\\"\\n",null,"r"]').digest()
    what = sha256(key_of_what + b'[null,"{\\"n\\": 1.50}"]').digest()
    text = '[7,"a.b","ü",false,844424930131968]'.encode()
    digest = sha256(b"\0" + who + what + text).digest()
    assert tuple(leaf) == (7, digest, 0, None, digest[:4] + who[:4])
    assert pack([leaf]) == b"\0\0\0\0\0\0\0\7" + leaf.mark
    pair = sha256(b"\1" + 2 * leaf.digest).digest()
    assert root_of([leaf]) == leaf.digest.hex()
    assert root_of(3 * [leaf]) == sha256(b"\1" + pair + leaf.digest).hexdigest()
    rest = ("Ada", None, "r")
    without_who = Leaf.of((*plain, "x", None, None, None, '{"n": 1.50}', key_of_what, who, None))
    assert without_who == (7, leaf.digest, WHO, ("x", None, None), leaf.mark)
    without_what = Leaf.of((*plain, 'Ada "A"\n', None, "r", "x", None, key_of_who, None, what))
    assert without_what == (7, leaf.digest, WHAT, ("x", None), leaf.mark)
    neither = Leaf.of((*plain, *rest, "x", None, None, who, what))
    assert neither == (7, leaf.digest, WHO | WHAT, (*rest, "x", None), leaf.mark)
    at = datetime(2026, 1, 2, 3, 4, 5, 6, UTC)
    signed = '["seal-v2",2,1,9,8,"00",3,"dd",null,"ff",1767323045000006]'
    assert (
        Seal(2, 1, 9, 8, "00", 3, "dd", None, "ff", at).sign(KEYS)
        == sha256(signed.encode()).hexdigest()
    )
    assert KEYS.newest == "d62a35407e4735ed"
    signed = signed.replace("null", f'"{KEYS.newest}"')
    mac = hmac.digest(KEY.encode(), signed.encode(), "sha256").hex()
    assert Seal(2, 1, 9, 8, "00", 3, "dd", KEYS.newest, "ff", at).sign(KEYS) == mac


@pytest.mark.parametrize(
    ("salt", "who", "what"),
    [(b"x" * 16, b"w" * 32, None), (b"", b"w" * 32, None), (b"x" * 32, None, None),
     (b"x" * 16, b"w" * 32, b"w" * 32), (b"x" * 15, None, None)],
)  # fmt: skip
def test_a_salt_of_another_length_makes_it_another_row(
    salt: bytes, who: bytes | None, what: bytes | None
) -> None:
    row = (7, "a.b", None, False, b"\0" * 8, None, None, None, None, None, salt, who, what)
    assert Leaf.of(row).digest == b""


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 7, 8, 9, 100, 1000])
def test_a_path_leads_from_each_leaf_to_the_root_and_from_no_other(size: int) -> None:
    leaves = [merkle.leaf_hash(bytes([n % 256, n // 256])) for n in range(size)]
    root = merkle.root(leaves)
    assert root == of_the_rfc(leaves)
    for index in range(0, size, max(1, size // 20)):
        path = merkle.path(leaves, index)
        assert merkle.root_of_path(leaves[index], index, size, path) == root
        assert merkle.root_of_path(leaves[index - 1], index, size, path) != root or size == 1
        assert merkle.root_of_path(leaves[index], index, size, [*path, root]) is None
        assert merkle.root_of_path(leaves[index], index, size, path[:-1]) != root or size == 1
        assert (
            merkle.root_of_path(leaves[index], (index + 1) % size, size, path) != root or size == 1
        )


def of_the_rfc(leaves: Sequence[bytes]) -> bytes:
    """The definition in RFC 9162, section 2.1.1."""
    if len(leaves) == 1:
        return leaves[0]
    k = 1 << ((len(leaves) - 1).bit_length() - 1)
    return sha256(b"\1" + of_the_rfc(leaves[:k]) + of_the_rfc(leaves[k:])).digest()


async def test_seals_adjoin_and_cover_all_that_is_settled(db: Engine) -> None:
    await seal_three_times(db)
    assert await seals() == [(1, 1, 10, 10), (2, 12, 20, 9), (3, 22, 30, 9)]
    assert await seal(db, KEYS) == Sealed(0, 0)
    report = await verify(db, KEYS)
    assert (report.verified, report.seals, report.problem) == (28, 3, None)


async def test_a_seal_covers_ten_thousand_rows_at_most(db: Engine) -> None:
    await fill(db, 1, 10_000)
    await skip_an_id(db)
    await fill(db, 10_002, 20_001)
    assert await seal(db, KEYS) == Sealed(2, 20_000)
    assert await seals() == [(1, 1, 10_000, 10_000), (2, 10_002, 20_001, 10_000)]
    assert (await verify(db, KEYS)).verified == 20_000


async def test_settings_of_the_session_do_not_matter(db: Engine) -> None:
    await record(db, "some.thing", details={"ä": 1.50, "b": [None, 1e400, '\\ "']})
    for setting in (
        "timezone = 'Asia/Tokyo'",
        "datestyle = 'German'",
        "bytea_output = 'escape'",
        "extra_float_digits = -5",
        "standard_conforming_strings = off",
        "default_transaction_isolation = 'serializable'",
    ):
        await seal(db, KEYS)
        await db.run_ddl(f"ALTER ROLE CURRENT_USER IN DATABASE {await database(db)} SET {setting}")
        await db.close_connection_pool()
        await db.start_connection_pool()
        report = await verify(db, KEYS)
        assert (report.problem, report.unsealed) == (None, 0)
        await record(db, "some.thing")


async def database(db: Engine) -> str:
    [[name]] = await db.fetch("SELECT current_database()")
    return str(name)


async def test_dates_far_away_can_be_sealed(db: Engine) -> None:
    for date in ("infinity", "-infinity", "4713-01-01 BC", "294276-12-31"):
        await db.run_ddl(f"INSERT INTO audit_logs (action, created_at) VALUES ('x', '{date}')")
    await seal(db, KEYS)
    assert (await verify(db, KEYS)).verified == 4
    await tamper(db, "UPDATE audit_logs SET created_at = '-infinity' WHERE id = 1")
    assert (await verify(db, KEYS)).problem is not None


@pytest.mark.parametrize("end", ["COMMIT", "ROLLBACK"])
async def test_a_seal_waits_for_who_was_writing_and_for_nobody_else(db: Engine, end: str) -> None:
    async with another_session(db) as slow, another_session(db) as late:
        await slow.execute(f"BEGIN; {WRITE}")  # id 1
        await fill(db, 2, 5)
        sealing = asyncio.create_task(seal(db, KEYS, patience=30))
        await has_asked_who_is_writing(late, sealing)
        await late.execute(f"BEGIN; {WRITE}")  # id 6, and never ends
        assert not sealing.done()
        await slow.execute(end)
        assert (await sealing).rows == (5 if end == "COMMIT" else 4)
        assert (await seals())[0][2] == 5
        await late.execute("COMMIT")
    await seal(db, KEYS)
    assert (await verify(db, KEYS)).problem is None


ASKED = """
    SELECT true FROM pg_stat_activity
    WHERE query LIKE '%FROM pg_locks%' AND state = 'idle' AND pid <> pg_backend_pid()
"""


async def has_asked_who_is_writing(session: Any, sealing: asyncio.Task[Sealed]) -> None:
    while not await session.fetchval(ASKED):
        assert not sealing.done()
        await asyncio.sleep(0.01)


async def test_readers_are_not_waited_for(db: Engine) -> None:
    await fill(db, 1, 3)
    async with another_session(db) as reader:
        await reader.execute("BEGIN; SELECT * FROM audit_logs; LOCK audit_logs IN SHARE MODE")
        assert (await seal(db, KEYS, patience=0)).rows == 3


async def test_a_transaction_that_does_not_end_is_named(db: Engine) -> None:
    await fill(db, 1, 3)
    async with another_session(db) as slow:
        await slow.execute(f"BEGIN; {WRITE}")
        pid = await slow.fetchval("SELECT pg_backend_pid()")
        with pytest.raises(SealingDelayed, match=rf"process {pid}, groundwork, open for \d+ s"):
            await seal(db, KEYS, patience=0.1)
    assert await seals() == []


async def test_no_row_is_missed_while_many_write(db: Engine) -> None:
    """Slow commits, rollbacks, ids drawn in one order and committed in another."""
    dice = random.Random(7)
    writing = True

    async def write() -> None:
        async with another_session(db) as session:
            for _ in range(15):
                work = session.transaction()
                await work.start()
                for _ in range(dice.randrange(1, 4)):
                    await session.execute(WRITE)
                    await asyncio.sleep(dice.random() * 0.02)
                await (work.rollback() if dice.random() < 0.3 else work.commit())

    async def keep_sealing() -> int:
        runs = 0
        while writing:
            runs += bool((await seal(db, KEYS, patience=30)).seals)
        return runs

    sealer = asyncio.create_task(keep_sealing())
    await asyncio.gather(*[write() for _ in range(12)])
    writing = False
    assert await sealer > 3
    await seal(db, KEYS)
    report = await verify(db, KEYS)
    assert (report.problem, report.verified) == (None, await AuditLog.count())
    assert report.unsealed == 0


async def test_two_sealers_at_once_make_one_chain(db: Engine) -> None:
    for start in range(1, 100, 10):
        await fill(db, start, start + 9)
        done = await asyncio.gather(*[seal(db, KEYS) for _ in range(4)])
        assert sorted(each.rows for each in done) == [0, 0, 0, 10]
    assert (await verify(db, KEYS)).verified == 100


async def test_a_seal_that_fails_leaves_no_gap(db: Engine) -> None:
    await fill(db, 1, 3)
    await db.run_ddl("ALTER TABLE audit_seals ADD CONSTRAINT no CHECK (row_count < 3)")
    with pytest.raises(asyncpg.CheckViolationError):
        await seal(db, KEYS)
    await db.run_ddl("ALTER TABLE audit_seals DROP CONSTRAINT no")
    await seal(db, KEYS)
    assert await seals() == [(1, 1, 3, 3)]


async def test_deleting_a_person_breaks_no_seal(db: Engine, member: User) -> None:
    async with db.transaction():
        await AuditLog(action="something.done", user_id=member.id, actor=member.email).save()
    await seal(db, KEYS)
    await member.remove()
    assert await AuditLog.count().where(AuditLog.user_id.is_not_null()) == 0
    assert (await verify(db, KEYS)).problem is None


async def test_a_key_may_come_later_and_change_but_not_go(db: Engine) -> None:
    new, newer = "n" * 32, "m" * 32
    for start, key in enumerate((None, new, f"{newer}, {new}", newer), 1):
        await fill(db, start, start)
        await seal(db, SealKeys(key))
    report = await verify(db, SealKeys(f"{newer},{new}"))
    assert (report.problem, report.verified, report.seals_without_key) == (None, 4, 1)
    await fill(db, 5, 5)
    for wrong in (None, new, "another key of thirty-two letters"):
        with pytest.raises(OtherKey, match="AUDIT_SEAL_KEY=new,old"):
            await seal(db, SealKeys(wrong))
        with pytest.raises(OtherKey, match="another AUDIT_SEAL_KEY"):
            await verify(db, SealKeys(wrong))


async def test_sealing_is_due_once_in_an_interval(db: Engine) -> None:
    await fill(db, 1, 1)
    assert (await seal_when_due(db, KEYS, 3600)).rows == 1
    await fill(db, 2, 2)
    assert (await seal_when_due(db, KEYS, 3600)).rows == 0
    assert (await seal_when_due(db, KEYS, 0)).rows == 1


@pytest.mark.any_version
@pytest.mark.direct  # memory is ours, not the pooler's
async def test_memory_does_not_grow_with_the_trail(db: Engine) -> None:
    async def peak_of_verifying() -> int:
        tracemalloc.start()
        try:
            assert (await verify(db, KEYS)).problem is None
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    await fill(db, 1, 20_000)
    await seal(db, KEYS)
    short = await peak_of_verifying()
    await fill(db, 20_001, 60_000)
    await seal(db, KEYS)
    assert await peak_of_verifying() < 1.3 * short


async def test_the_next_page_is_there_when_one_is_hashed_and_no_other_is_asked_for() -> None:
    asked = 0
    row = (7, "a", None, False, b"\0" * 8, None, None, None, None, None, b"", None, None)

    async def pages() -> AsyncIterator[Any]:
        nonlocal asked
        for _ in range(3):
            asked += 1
            await asyncio.sleep(0)
            yield [row] * (AT_ONCE + 1)

    found = []
    async for leaves in leaf_pages(pages()):
        found.append((asked, len(leaves)))
        await asyncio.sleep(0.001)
        assert asked == found[-1][0], "the connection is free meanwhile"
    assert found == [(each, AT_ONCE + 1) for each in (2, 3, 3)]
