"""Merkle trees as of RFC 9162, section 2.1: one digest over many, and short proofs of each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from hashlib import sha256

LEAF, NODE = b"\x00", b"\x01"


def leaf_hash(data: bytes) -> bytes:
    """Return the hash of a leaf."""
    return sha256(LEAF + data).digest()


def levels(leaves: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
    """Yield the tree from its leaves (their hashes, at least one) to its root, which is alone.

    A node without a neighbour goes up as it is, which makes the same tree as the RFC's recursion.
    """
    level = leaves
    yield level
    while len(level) > 1:
        pairs = zip(level[::2], level[1::2], strict=False)
        above = [sha256(NODE + left + right).digest() for left, right in pairs]
        if len(level) % 2:
            above.append(level[-1])
        level = above
        yield level


def root(leaves: Sequence[bytes]) -> bytes:
    """Return the root over hashes of leaves, at least one."""
    *_, [top] = levels(leaves)
    return top


def path(leaves: Sequence[bytes], index: int) -> list[bytes]:
    """Return the proof that a leaf is in the tree: its neighbours on the way to the root."""
    found = []
    for level in levels(leaves):
        neighbour = index ^ 1
        if neighbour < len(level):
            found.append(level[neighbour])
        index //= 2
    return found


def root_of_path(leaf: bytes, index: int, size: int, neighbours: Sequence[bytes]) -> bytes | None:
    """Return the root that a proof leads to, or None where it does not fit the size of the tree.

    Args:
        leaf: its hash.
        index: its place, from 0.
        size: leaves of the tree.
    """
    if not 0 <= index < size:
        return None
    found, last, rest = leaf, size - 1, list(neighbours)
    while last:
        if index % 2 or index < last:
            if not rest:
                return None
            other = rest.pop(0)
            found = sha256(NODE + (other + found if index % 2 else found + other)).digest()
        index, last = index // 2, last // 2
    return None if rest else found
