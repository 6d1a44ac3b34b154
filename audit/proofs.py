"""A proof that one row is under a seal: a path in the seal's Merkle tree (RFC 9162)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from audit import merkle
from audit.database import Database, Record
from audit.digests import (
    ROW,
    SALT_BYTES,
    WHAT,
    WHO,
    Leaf,
    Seal,
    key_of,
    what_digest,
    who_digest,
)
from audit.errors import Refused
from audit.exported import Exported, NotProven, is_number
from audit.paging import trail_pages, transaction
from audit.seals import LOWEST_ID, leaves_of
from audit.verify import NoArchive

if TYPE_CHECKING:
    from audit.archive.reading import Archive

FORMAT = "groundwork-proof-2"
SEAL = "SELECT * FROM audit_seals WHERE last_id >= $1 ORDER BY last_id LIMIT 1"
BEFORE = "SELECT last_id FROM audit_seals WHERE id = $1 - 1"
IS_THERE = "SELECT EXISTS (SELECT FROM audit_logs WHERE id = $1)"
ROWS = "id BETWEEN $1 AND $2 ORDER BY id"
TEXTS = {"who": ("actor", "ip_address", "request_id"), "what": ("resource_id", "details")}
PARTS = {"who": WHO, "what": WHAT}


class CannotProve(Refused):
    """There is no proof of this row."""


@dataclass(frozen=True)
class Proof:
    """What leads from a row to the root under a seal.

    Args:
        row: values of ROW.
        index: its place among the rows of the seal, from 0.
        size: how many these are.
        path: digests, from the leaf's neighbour up.
    """

    row: tuple[Any, ...]
    index: int
    size: int
    path: Sequence[bytes]
    seal: Exported

    @property
    def leaf(self) -> Leaf:
        return Leaf.of(self.row)

    def check(self, seal: Exported) -> None:
        """Check it against a seal that was kept elsewhere.

        Raises:
            NotProven: it does not lead there.
        """
        leaf, of = self.leaf, f"seal {seal.seal.id}"
        if self.seal != seal:
            raise NotProven(f"{of} is another one in the file of seals than in the proof")
        if self.size != seal.seal.row_count:
            raise NotProven(f"{of} covers {seal.seal.row_count} rows, not {self.size}")
        if not leaf.digest:
            raise NotProven(f"row {leaf.id} has a salt that no row has")
        root = merkle.root_of_path(leaf.digest, self.index, self.size, self.path)
        if root is None or root.hex() != seal.seal.root:
            raise NotProven(f"row {leaf.id} is not under {of} as the proof says it is")


async def prove(db: Database, id_: int, archive: Archive | None = None) -> Proof:
    """Return the proof of a row, made from all rows under its seal.

    Args:
        archive: where rows are that were archived.

    Raises:
        CannotProve: there is no such row, or no seal over it, or the rows are not as sealed.
        NoArchive: it was archived, and nobody says where.
    """
    async with transaction(db, "repeatable_read", readonly=True) as connection:
        row = await connection.fetchrow(SEAL, id_)
        if row is None:
            is_there = await connection.fetchval(IS_THERE, id_)
            raise CannotProve(_no_seal(id_) if is_there else f"there is no row {id_}")
        if row["pruned_at"]:
            raise CannotProve(_was_pruned(id_, row))
        if row["archived_at"]:
            return await _prove_archived(row, id_, archive)
        start = await connection.fetchval(BEFORE, row["id"])
        start = LOWEST_ID if start is None else start + 1
        found, leaves = None, list[bytes]()
        async for page in trail_pages(connection, ROW, ROWS, start, row["last_id"]):
            for place, each in enumerate(page, len(leaves)):
                if each["id"] == id_:
                    found, index = tuple(each), place
            leaves += [leaf.digest for leaf in await leaves_of(page)]
    if found is None:
        raise CannotProve(f"there is no row {id_}")
    return _proof(row, leaves, found, index)


async def _prove_archived(row: Record, id_: int, archive: Archive | None) -> Proof:
    if archive is None:
        raise NoArchive
    seal = Seal.of(row)
    leaves = await archive.leaves(seal)
    index = next((place for place, leaf in enumerate(leaves) if leaf.id == id_), None)
    found = [each async for page in archive.sealed(seal, id_) for each in page]
    if index is None or len(found) != 1:
        raise CannotProve(f"there is no row {id_}")
    return _proof(row, [leaf.digest for leaf in leaves], found[0], index)


def _proof(row: Record, leaves: Sequence[bytes], found: tuple[Any, ...], index: int) -> Proof:
    seal = Seal.of(row)
    if not Leaf.of(found).digest:
        raise CannotProve(f"row {found[0]} has a salt that no row of ours has")
    if len(leaves) != seal.row_count or merkle.root(leaves).hex() != seal.root:
        raise CannotProve(
            f"the rows under seal {seal.id} are not as they were sealed; see piccolo audit verify"
        )
    path = merkle.path(leaves, index)
    return Proof(found, index, len(leaves), path, Exported(seal, row["algorithm"], row["digest"]))


def without(proof: Proof, parts: int) -> Proof:
    """Return a proof of the same row that does not show some parts: it looks as if they were
    erased, and proves the rest.

    Args:
        parts: WHO, WHAT, both or 0.
    """
    if not parts:
        return proof
    row = dict(zip(ROW, proof.row, strict=True))
    salt, withheld = row["salt"] or b"", 0
    digests: dict[str, Callable[..., bytes]] = {"who": who_digest, "what": what_digest}
    for name, digest in digests.items():
        if row[f"{name}_digest"] is None and parts & PARTS[name]:
            row[f"{name}_digest"] = digest(salt, *(row[text] for text in TEXTS[name]))
        withheld |= 0 if row[f"{name}_digest"] is None else PARTS[name]
    rest = (WHO | WHAT) & ~withheld
    row["salt"] = key_of(rest, salt) if rest else None
    return replace(proof, row=tuple(row.values()))


def _no_seal(id_: int) -> str:
    return f"row {id_} is not sealed yet: run piccolo audit seal, and try again"


def _was_pruned(id_: int, seal: Record) -> str:
    at = seal["pruned_at"]
    return f"the rows under seal {seal['id']}, where row {id_} was, were pruned on {at:%Y-%m-%d}"


def to_json(proof: Proof) -> Mapping[str, Any]:
    """Return a proof as JSON is to say it: of erased parts the commitment, of others the texts."""
    row = dict(zip(ROW, proof.row, strict=True))
    written: dict[str, Any] = {name: row[name] for name in ROW[:4]}
    written["created_at"] = int.from_bytes(row[ROW[4]], "big", signed=True)
    for part, texts in TEXTS.items():
        digest = row[f"{part}_digest"]
        plain = {name: row[name] for name in texts}
        written[part] = plain if digest is None else {"digest": digest.hex()}
    written["salt"] = (row["salt"] or b"").hex()
    return {
        "format": FORMAT,
        "row": written,
        "leaf_index": proof.index,
        "tree_size": proof.size,
        "path": [each.hex() for each in proof.path],
        "seal": proof.seal.values(),
    }


def from_json(said: Any) -> Proof:
    """Return the proof that JSON says.

    Raises:
        ValueError: it is none, and nothing that is not checked may be in it.
    """
    _has(said, "format", "row", "leaf_index", "tree_size", "path", "seal")
    numbers = said["leaf_index"], said["tree_size"]
    if said["format"] != FORMAT or not all(map(is_number, numbers)):
        raise ValueError
    if not isinstance(said["path"], list):
        raise ValueError
    path = [_bytes(each, (32,)) for each in said["path"]]
    return Proof(_row(said["row"]), *numbers, path, Exported.of(said["seal"]))


def _row(said: Any) -> tuple[Any, ...]:
    _has(said, *ROW[:4], "created_at", *TEXTS, "salt")
    plain = tuple(said[name] for name in ROW[:4])
    id_, action, resource, is_admin = plain
    if not (is_number(id_) and _text(action) is not None and isinstance(is_admin, bool)):
        raise ValueError
    _text(resource)
    if not is_number(said["created_at"]):
        raise ValueError
    sent = said["created_at"].to_bytes(8, "big", signed=True)
    texts, digests, erased = list[str | None](), list[bytes | None](), 0
    for part, names in TEXTS.items():
        if isinstance(said[part], dict) and said[part].keys() == {"digest"}:
            digests.append(_bytes(said[part]["digest"], (32,)))
            texts += [None] * len(names)
            erased |= PARTS[part]
            continue
        _has(said[part], *names)
        digests.append(None)
        texts += [_text(said[part][name]) for name in names]
    return (*plain, sent, *texts, _bytes(said["salt"], SALT_BYTES[erased]), *digests)


def _has(value: Any, *names: str) -> None:
    if not isinstance(value, dict) or value.keys() != set(names):
        raise ValueError


def _text(value: Any) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str):
        raise ValueError
    value.encode()  # half of a surrogate pair is a ValueError, too
    return value


def _bytes(value: Any, lengths: Sequence[int]) -> bytes:
    if not isinstance(value, str):
        raise ValueError
    found = bytes.fromhex(value)
    if len(found) not in lengths or found.hex() != value:
        raise ValueError
    return found
