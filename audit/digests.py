"""What a seal says, byte for byte: whoever wants to check one by other means finds the rules here.

- A row's digest is SHA-256 over the JSON array of CONTENT, without spaces, in UTF-8.
- `rows_digest` is SHA-256 over id (8 bytes, big-endian) and digest of each row, in order of ids.
- A seal's digest is HMAC-SHA256 under AUDIT_SEAL_KEY, or SHA-256 without one, over the JSON array
  of its other values, see `Seal.sign`.
- `leaves` hold id and the first 8 bytes of the digest of each row. They prove nothing: they name
  the row that breaks the seal.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from struct import Struct
from typing import Any, NamedTuple

from audit.database import Record
from audit.settings import AuditSettings

# `user_id` is left out: it is emptied when the person is deleted; `actor` says who it was.
# `details` comes as PostgreSQL writes jsonb, `created_at` as microseconds since 2000-01-01 UTC:
# neither depends on settings of the session.
CONTENT = (
    "actor",
    "action",
    "resource",
    "resource_id",
    "details",
    "ip_address",
    "request_id",
    "is_admin_action",
    "timestamptz_send(created_at)",
)
LEAF = Struct(">q8s")
ID = Struct(">q")
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

canonical = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


class Leaf(NamedTuple):
    """One row under a seal."""

    id: int
    digest: bytes

    @classmethod
    def of(cls, row: Iterable[Any]) -> Leaf:
        """Make it from a row of id and CONTENT."""
        id_, *content, microseconds = row
        content.append(int.from_bytes(microseconds, "big", signed=True))
        return cls(id_, hashlib.sha256(canonical(content).encode()).digest())

    @property
    def short_digest(self) -> bytes:
        """Return the beginning of the digest, which names the row that was altered."""
        return self.digest[:8]


def rows_digest(leaves: Iterable[Leaf]) -> str:
    """Return one digest over many rows, hexadecimal."""
    total = hashlib.sha256()
    for leaf in leaves:
        total.update(ID.pack(leaf.id) + leaf.digest)
    return total.hexdigest()


def pack(leaves: Iterable[Leaf]) -> bytes:
    """Return what is kept of the rows, to name the one that changed."""
    return b"".join(LEAF.pack(leaf.id, leaf.short_digest) for leaf in leaves)


def unpack(packed: bytes) -> Iterator[Leaf]:
    """Yield leaves with shortened digests. What is left over at a torn end is not a leaf."""
    whole = len(packed) - len(packed) % LEAF.size
    return (Leaf(*each) for each in LEAF.iter_unpack(packed[:whole]))


class SealKeys:
    """The keys of AUDIT_SEAL_KEY, newest first, separated by commas: the first one makes seals.

    A key's id names it without giving it away.
    """

    def __init__(self, text: str | None) -> None:
        keys = [key.strip().encode() for key in (text or "").split(",") if key.strip()]
        self._keys = {
            hmac.digest(key, b"groundwork seal key", "sha256")[:8].hex(): key for key in keys
        }
        self.newest = next(iter(self._keys), None)

    @classmethod
    def of(cls, settings: AuditSettings) -> SealKeys:
        """Read them from the settings."""
        key = settings.audit_seal_key
        return cls(key.get_secret_value() if key else None)

    def __contains__(self, key_id: str | None) -> bool:
        return key_id is None or key_id in self._keys

    def digest(self, key_id: str | None, message: bytes) -> str:
        """Return HMAC-SHA256, or SHA-256 where there is no key; hexadecimal."""
        if key_id is None:
            return hashlib.sha256(message).hexdigest()
        return hmac.digest(self._keys[key_id], message, "sha256").hex()


@dataclass(frozen=True)
class Seal:
    """A seal, which vouches for the rows after those of the seal before, up to `last_id`."""

    id: int
    first_id: int
    last_id: int
    row_count: int
    rows_digest: str
    key_id: str | None
    previous_digest: str | None
    created_at: datetime

    @classmethod
    def of(cls, row: Record | Mapping[str, Any]) -> Seal:
        """Make it from a row of `audit_seals`."""
        return cls(**{name: row[name] for name in cls.__dataclass_fields__})

    @property
    def algorithm(self) -> str:
        return "sha256" if self.key_id is None else "hmac-sha256"

    def sign(self, keys: SealKeys) -> str:
        """Return its digest, hexadecimal."""
        microseconds = (self.created_at - EPOCH) // timedelta(microseconds=1)
        values = {**asdict(self), "created_at": microseconds}
        return keys.digest(self.key_id, canonical(["seal-v1", *values.values()]).encode())
