"""What left the trail on purpose, signed with the seal key: nothing else may be missing.

An erasure takes away who or what of some rows and leaves commitments to it; archiving and pruning
take away the rows under whole seals. Without AUDIT_SEAL_KEY whoever can write to the database could
have made them, as is so with seals.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from hashlib import sha256
from struct import Struct
from typing import Any, Literal, NamedTuple, get_args

from audit.context import current_actor, storable
from audit.database import Connection, Queries, Record
from audit.digests import WHAT, WHO, Seal, SealKeys
from audit.errors import Refused
from audit.paging import pages

Kind = Literal["erase", "archive", "prune"]
ALLOW = "SELECT set_config('groundwork.audit_removal', 'on', true)"  # see audit_append_only_v1
ENTRY = Struct(">qB")  # id of a row, and WHO, WHAT or both
NOW = "SELECT clock_timestamp()"
ALL = "SELECT * FROM audit_removals ORDER BY id"
IN_A_PAGE = 20
IS_OWNER = """
    SELECT pg_has_role((SELECT relowner FROM pg_class WHERE oid = 'audit_logs'::regclass), 'USAGE')
"""
INSERT = """
    INSERT INTO audit_removals (kind, first_id, last_id, row_count, first_seal, last_seal,
                                rows_digest, pseudonym, actor, reason, created_at, key_id,
                                digest, rows)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)
    RETURNING id
"""


@dataclass(frozen=True)
class Removal:
    """What is signed of one step.

    Args:
        rows_digest: SHA-256 of the packed entries of an erasure, else the digest of the last seal.
        pseudonym: what stands in the place of who was erased.
    """

    kind: Kind
    first_id: int
    last_id: int
    row_count: int
    first_seal: int | None
    last_seal: int | None
    rows_digest: str
    pseudonym: str | None
    actor: str
    reason: str | None
    created_at: datetime
    key_id: str | None

    @classmethod
    def of(cls, row: Record) -> Removal:
        """Make it from a row of `audit_removals`."""
        return cls(**{name: row[name] for name in cls.__dataclass_fields__})

    def sign(self, keys: SealKeys) -> str:
        """Return its digest, hexadecimal."""
        return keys.sign(self.key_id, "removal-v2", asdict(self))


async def store(
    connection: Queries, keys: SealKeys, removal: Removal, entries: bytes | None = None
) -> int:
    """Store a removal, signed; return its id."""
    values = (*vars(removal).values(), removal.sign(keys), entries)
    return int(await connection.fetchval(INSERT, *values))


class NotTheOwner(Refused):
    """Only the owner of the trail may take rows away."""

    status, code = 403, "forbidden"


async def check_owner(queries: Queries, command: str) -> None:
    """Raise NotTheOwner unless this role may take rows away.

    Args:
        command: which the owner would use.
    """
    if not await queries.fetchval(IS_OWNER):
        raise NotTheOwner(
            "this role does not own the trail, and cannot take rows away: "
            f"run `{command}` with the DATABASE_URL of the owner's role, by cron"
        )


def whoever_acts() -> str:
    """Return who takes something away, for the record that is signed."""
    actor = current_actor()
    return storable(actor.name) if actor else "unknown"


def packed(entries: Iterable[tuple[int, int]]) -> bytes:
    """Return pairs of row and erased parts, in the order of ids, as they are kept."""
    return b"".join(ENTRY.pack(*entry) for entry in entries)


class Erased(NamedTuple):
    """What was erased of a row, and what must stand there now; see `Leaf`."""

    parts: int
    left: tuple[str | None, ...]


@dataclass
class Removals:
    """All removals of a trail, for whoever verifies it.

    Args:
        broken: what is wrong with one of them.
        other_key: id of the first one that was signed with a key that is not known, and the key's.
    """

    broken: str | None = None
    other_key: tuple[int, str] | None = None
    _ranges: dict[Kind, list[tuple[int, int, str]]] = field(
        default_factory=lambda: {kind: [] for kind in get_args(Kind)}
    )
    _erasures: list[tuple[bytes, str]] = field(default_factory=list)
    _signed: list[tuple[int, str, bool]] = field(default_factory=list)  # id, digest, has a key
    _passed: int = 0  # so many of them the last seal covers, and this is over their digests
    _over: Any = field(default_factory=sha256)
    _vouched_for: int | None = None  # by the first seal with a key

    @classmethod
    async def read(cls, connection: Connection, keys: SealKeys) -> Removals:
        """Return them. Needs an open transaction; of each erased row it takes nine bytes."""
        found = cls()
        async for page in pages(connection, ALL, size=IN_A_PAGE):
            for row in page:
                found._add(row, keys)
        return found

    def _add(self, row: Record, keys: SealKeys) -> None:
        removal, entries = Removal.of(row), row["rows"] or b""
        self._signed.append((row["id"], row["digest"], removal.key_id is not None))
        if removal.key_id not in keys:
            self.other_key = self.other_key or (row["id"], str(removal.key_id))
            return
        is_whole = removal.kind in get_args(Kind) and removal.sign(keys) == row["digest"]
        if removal.kind == "erase":
            is_whole &= sha256(entries).hexdigest() == removal.rows_digest
        if not is_whole:
            self.broken = self.broken or f"removal {row['id']} was altered or forged"
        elif removal.kind == "erase":
            self._erasures.append((entries, str(removal.pseudonym)))
        elif removal.first_seal and removal.last_seal:
            span = (removal.first_seal, removal.last_seal, removal.rows_digest)
            self._ranges[removal.kind].append(span)

    def is_signed(self, kind: Kind, seal: int) -> bool:
        """Return whether the rows of a seal were pruned or archived."""
        return any(first <= seal <= last for first, last, _ in self._ranges[kind])

    def contradiction(self, seal: Seal, digest: str) -> str | None:
        """Return what is wrong if a seal and the removals do not fit together.

        Args:
            seal: each one in turn.
        """
        for spans in self._ranges.values():
            for _, last, of_last in spans:
                if last == seal.id and of_last != digest:
                    return f"the rows of another seal {seal.id} were signed away"
        while self._passed < min(seal.removal_count, len(self._signed)):
            self._over.update(self._signed[self._passed][1].encode())
            self._passed += 1
        if seal.removal_count < self._passed or self._over.hexdigest() != seal.removals_digest:
            return f"a removal from before seal {seal.id} was altered, removed or inserted"
        if seal.key_id is not None and self._vouched_for is None:
            self._vouched_for = seal.removal_count
        return None

    def unsigned(self) -> str | None:
        """Return which removal could be anybody's, although there is a key; after all seals."""
        if self._vouched_for is None:
            return None
        for id_, _, has_key in self._signed[self._vouched_for :]:
            if not has_key:
                return f"removal {id_} was not signed with a key, as seals before it were"
        return None

    def erased(self, first: int, last: int) -> dict[int, Erased]:
        """Return what was erased of the rows first to last."""
        found: dict[int, Erased] = {}
        for entries, pseudonym in self._erasures:
            ids = _Ids(entries)
            for place in range(bisect_left(ids, first), bisect_right(ids, last)):
                id_, parts = ENTRY.unpack_from(entries, place * ENTRY.size)
                found[id_] = _with(found.get(id_), parts, pseudonym)
        return found


class _Ids(Sequence[int]):
    """Ids of packed entries, without unpacking them."""

    def __init__(self, entries: bytes) -> None:
        self._entries = entries

    def __len__(self) -> int:
        return len(self._entries) // ENTRY.size

    def __getitem__(self, place: int) -> int:  # type: ignore[override]  # bisect asks for no slices
        id_: int = ENTRY.unpack_from(self._entries, place * ENTRY.size)[0]
        return id_


def left(parts: int, who: str, what: str) -> tuple[str | None, ...]:
    """Return what stands in the erased columns, see `Leaf`."""
    return (*((who, None, None) if parts & WHO else ()), *((what, None) if parts & WHAT else ()))


def _with(before: Erased | None, parts: int, pseudonym: str) -> Erased:
    """Return both erasures of a row: the first of each part stays."""
    if before is None:
        return Erased(parts, left(parts, pseudonym, pseudonym))
    who = str(before.left[0]) if before.parts & WHO else pseudonym
    what = str(before.left[-2]) if before.parts & WHAT else pseudonym
    both = before.parts | parts
    return Erased(both, left(both, who, what))
