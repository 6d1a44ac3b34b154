"""What a verification may find, and how the first row is named that is not as it was sealed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from audit.digests import Leaf, Seal, unpack
from audit.removals import Erased

Kind = Literal[
    "altered", "removed", "inserted", "moved", "erased_unsigned", "refilled",  # a row
    "seal_altered", "seal_removed", "leaves_altered",
    "removal_altered", "pruned_unsigned", "archived_unsigned",
    "archive_altered", "archive_missing",
]  # fmt: skip


@dataclass(frozen=True)
class Problem:
    """The first thing that is not as it was sealed."""

    kind: Kind
    message: str
    seal: int
    row: int | None = None


class Tampered(Exception):
    """Something is not as it was sealed."""

    def __init__(self, kind: Kind, message: str, seal: int, row: int | None = None) -> None:
        super().__init__(message)
        self.problem = Problem(kind, message, seal, row)


def check_erased(seal: Seal, found: Sequence[Leaf], signed: Mapping[int, Erased]) -> None:
    """Raise Tampered unless exactly what was signed is erased."""
    for leaf in found:
        expected = signed.get(leaf.id)
        if (leaf.erased, leaf.left) == (expected or (0, None)):
            continue
        if expected is None or leaf.erased & ~expected.parts:
            message = f"row {leaf.id} was erased, and no signed erasure is about it"
            raise Tampered("erased_unsigned", message, seal.id, leaf.id)
        message = f"row {leaf.id} was erased, and filled again"
        raise Tampered("refilled", message, seal.id, leaf.id)


def first_difference(seal: Seal, packed: bytes, found: list[Leaf]) -> Tampered:
    """Return what names the first row that is not as it was."""
    was = dict(unpack(packed))
    now = {leaf.id: leaf.mark for leaf in found}
    went = {id_: mark for id_, mark in was.items() if now.get(id_) != mark}
    came = {id_: mark for id_, mark in now.items() if was.get(id_) != mark}
    if len(was) != seal.row_count or not (went or came):
        message = (
            f"rows {seal.first_id} to {seal.last_id} are not as they were sealed; "
            f"which one cannot be said, since the leaves of seal {seal.id} were altered, too"
        )
        return Tampered("altered", message, seal.id)
    row = min([*went, *came])
    if (other := _holder(went, row, came.get(row))) is not None:
        return Tampered("moved", f"row {row} holds what was in row {other}", seal.id, row)
    if (other := _holder(came, row, went.get(row))) is not None:
        return Tampered("moved", f"row {row} was moved: it is row {other} now", seal.id, row)
    if row not in was:
        return Tampered("inserted", f"row {row} was inserted", seal.id, row)
    if row not in now:
        return Tampered("removed", f"row {row} was removed", seal.id, row)
    return Tampered("altered", f"row {row} was altered", seal.id, row)


def _holder(marks: Mapping[int, bytes], row: int, mark: bytes | None) -> int | None:
    """Return which other row has the part of a mark that does not depend on the id."""
    same = mark and mark[4:]
    return next((id_ for id_, held in marks.items() if held[4:] == same and id_ != row), None)
