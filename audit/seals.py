"""Sealing: what the trail says now can be proven later.

A seal covers the rows after those of the seal before it, so that nothing can be slipped in between,
and holds that seal's digest, so that none can be exchanged. Writers never wait for the sealer.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass

from audit.database import Connection, Database, Queries, Record
from audit.digests import ROW, Leaf, Seal, SealKeys, pack, root_of
from audit.errors import GroundworkError
from audit.paging import INLINE_BYTES, trail_pages, transaction

SEALING_LOCK = 0x5345414C53  # «SEALS» in ASCII; any number will do
ROWS_PER_SEAL = 10_000
POLL_SECONDS = 0.05
AT_ONCE = 250  # rows, which take a millisecond to hash
LOWEST_ID = -(2**63)

ROWS = "id BETWEEN $1 AND $2 ORDER BY id LIMIT $3"
HAD_KEY = "SELECT EXISTS (SELECT FROM audit_seals WHERE key_id IS NOT NULL)"
LAST_SEAL = "SELECT * FROM audit_seals ORDER BY id DESC LIMIT 1"
INSERT = """
    INSERT INTO audit_seals (id, first_id, last_id, row_count, root, removal_count,
                             removals_digest, key_id, previous_digest, created_at, algorithm,
                             digest, leaves)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
"""
# The highest id that was ever drawn. Rows beyond it were put there by hand.
REMOVALS = """
    SELECT count(*),
           encode(sha256(coalesce(string_agg(digest, '' ORDER BY id), '')::bytea), 'hex')
    FROM audit_removals
"""
DRAWN = """
    SELECT coalesce(max(last_value), 0) AS id FROM pg_sequences
    WHERE schemaname = current_schema() AND sequencename = 'audit_logs_id_seq'
"""
HIGHEST_ID = f"SELECT coalesce(max(id), 0) FROM audit_logs WHERE id <= ({DRAWN})"  # noqa: S608
# Every INSERT holds this lock before it draws an id, and until its transaction has ended.
WRITERS = """
    SELECT virtualtransaction, pid FROM pg_locks
    WHERE locktype = 'relation' AND relation = 'audit_logs'::regclass AND granted
      AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
      AND mode = 'RowExclusiveLock' AND pid IS DISTINCT FROM pg_backend_pid()
"""
OLDEST_WRITER = """
    SELECT pid, application_name, extract(epoch FROM now() - xact_start)::int AS seconds
    FROM pg_stat_activity WHERE pid = any($1) ORDER BY xact_start LIMIT 1
"""
# The sequence is moved along behind the seals: it betrays that the last ones were removed.
SEALS_EVER_MADE = """
    SELECT coalesce(max(last_value), 0) FROM pg_sequences
    WHERE schemaname = current_schema() AND sequencename = 'audit_seals_id_seq'
"""


class SealingDelayed(GroundworkError):
    """Rows cannot be sealed yet, because a transaction that may add to them goes on."""


class LastSealForged(GroundworkError):
    """The last seal is not one that was made here; nothing was sealed on top of it."""


class OtherKey(GroundworkError):
    """Seals were made with a key that is not in AUDIT_SEAL_KEY."""

    def __init__(self, id_: int, key_id: str, what: str = "seal") -> None:
        super().__init__(
            f"{what} {id_} was made with another AUDIT_SEAL_KEY (its id is {key_id}): set that "
            "one, or after a change of keys both, the newer first: AUDIT_SEAL_KEY=new,old"
        )


@dataclass
class Sealed:
    """Numbers of what was sealed."""

    seals: int = 0
    rows: int = 0


async def seal(
    db: Database,
    keys: SealKeys,
    *,
    patience: float = 60,
    progress: Callable[[int], None] = lambda rows: None,
) -> Sealed:
    """Seal all rows that are there now, 10,000 under a seal. Several processes take turns.

    Args:
        keys: the first one makes the seals.
        patience: seconds to wait for transactions that were writing when this began.
        progress: called with the number of rows that each seal covers.

    Raises:
        SealingDelayed: one of them went on for longer; nothing was sealed.
        OtherKey: the last seal was made with a key that is not among these.
        LastSealForged: the last seal cannot be right.
    """
    done = Sealed()
    bound = await settled_id(db, patience)
    while True:
        async with transaction(db, "read_committed") as connection:  # sees what preceded the lock
            made = await _seal_next(connection, keys, bound)
        if made is None:
            return done
        # Afterwards, since it cannot be rolled back: the sequence is never ahead of the seals.
        await db.fetchval("SELECT audit_note_seals_v1()")
        done.seals += 1
        done.rows += made.row_count
        progress(made.row_count)


async def settled_id(db: Database, patience: float) -> int:
    """Return the highest id up to which every row is there that will ever be there.

    Ids are drawn in order, but committed in any. Whoever may have drawn an id up to the highest one
    visible holds a lock on the table now: once all these transactions have ended, none is missing.

    Raises:
        SealingDelayed: they have not after `patience` seconds.
    """
    bound = await db.fetchval(HIGHEST_ID)
    writers = {tuple(row) for row in await db.fetch(WRITERS)}
    deadline = time.monotonic() + patience
    while writers:
        if time.monotonic() > deadline:
            raise SealingDelayed(await _who_delays(db, [pid for _, pid in writers]))
        await asyncio.sleep(POLL_SECONDS)
        writers &= {tuple(row) for row in await db.fetch(WRITERS)}
    return int(bound)


async def _who_delays(db: Database, pids: Sequence[int | None]) -> str:
    who = "a prepared transaction"
    if row := await db.fetchrow(OLDEST_WRITER, [pid for pid in pids if pid]):
        name = row["application_name"] or "unnamed"
        who = f"a transaction (process {row['pid']}, {name}, open for {row['seconds']} s)"
    return f"{who} is still writing to the trail; nothing was sealed: try again once it has ended"


async def _seal_next(connection: Connection, keys: SealKeys, bound: int) -> Seal | None:
    """Make one more seal; return None when nothing is left up to the bound."""
    await connection.execute("SELECT pg_advisory_xact_lock($1)", SEALING_LOCK)
    last = await last_seal(connection, keys)
    start = last["last_id"] + 1 if last else LOWEST_ID
    if start > bound:
        return None
    leaves: list[Leaf] = []
    pages = trail_pages(connection, ROW, ROWS, start, bound, ROWS_PER_SEAL)
    async for page in leaf_pages(pages):
        leaves += page
    if not leaves:
        return None
    count, over = await connection.fetchrow(REMOVALS) or (0, "")
    made = Seal(
        # Where the last seals were removed, their numbers stay missing.
        id=max(last["id"] if last else 0, await connection.fetchval(SEALS_EVER_MADE)) + 1,
        first_id=leaves[0].id,
        last_id=leaves[-1].id if len(leaves) == ROWS_PER_SEAL else bound,
        row_count=len(leaves),
        root=root_of(leaves),
        removal_count=count,
        removals_digest=over,
        key_id=keys.newest,
        previous_digest=last["digest"] if last else None,
        created_at=await connection.fetchval("SELECT clock_timestamp()"),
    )
    values = (*vars(made).values(), made.algorithm, made.sign(keys), pack(leaves))
    await connection.execute(INSERT, *values)
    return made


async def last_seal(queries: Queries, keys: SealKeys) -> Record | None:
    """Return the last seal, if there is one.

    Raises:
        OtherKey: it was made with a key that is not among these.
        LastSealForged: it would hide rows, or was not made here: nothing may be built on it.
    """
    row = await queries.fetchrow(LAST_SEAL)
    if row is None:
        return None
    if row["key_id"] not in keys:
        raise OtherKey(row["id"], row["key_id"])
    problem = None
    if Seal.of(row).sign(keys) != row["digest"]:
        problem = "was altered or forged"
    elif row["key_id"] is None and await queries.fetchval(HAD_KEY):
        problem = "has no key, as others before it had: it was forged"
    elif row["last_id"] > await queries.fetchval(DRAWN):
        problem = "covers ids that no row ever had: it was forged"
    if problem is not None:
        raise LastSealForged(
            f"seal {row['id']}, the last one, {problem}. Nothing is sealed on top of it; "
            "see piccolo audit verify"
        )
    return row


async def leaf_pages(pages: AsyncIterator[Sequence[Record]]) -> AsyncIterator[list[Leaf]]:
    """Yield the leaves of pages of ROW. PostgreSQL finds the next page while one is hashed, and has
    found it when that is yielded: the connection is free.
    """
    page = await anext(pages, None)
    while page:
        ahead = asyncio.ensure_future(anext(pages, None))
        await asyncio.sleep(0)  # which begins it
        try:
            leaves = await leaves_of(page)
        finally:
            page = await ahead
        yield leaves


async def leaves_of(page: Sequence[Record]) -> list[Leaf]:
    """Return the leaves of a page of ROW; neither many rows nor a large one keep the event loop."""
    if len(page) == 1 and len(page[0]["details"] or "") > INLINE_BYTES:
        return [await asyncio.to_thread(Leaf.of, page[0])]
    leaves = list[Leaf]()
    for start in range(0, len(page), AT_ONCE):
        leaves += map(Leaf.of, page[start : start + AT_ONCE])
        await asyncio.sleep(0)
    return leaves
