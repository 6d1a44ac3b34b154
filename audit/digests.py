"""What a seal says, byte for byte: docs/seal-format.md has the rules and examples."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from json.encoder import encode_basestring as quoted
from struct import Struct
from typing import Any, NamedTuple

from audit.database import Record
from audit.merkle import leaf_hash, root
from audit.settings import AuditSettings

# `user_id` is left out: it is emptied when the person is deleted; `actor` says who it was.
# `details` comes as PostgreSQL writes jsonb, `created_at` as microseconds since 2000-01-01 UTC:
# neither depends on settings of the session.
ROW = (
    "id",
    "action",
    "resource",
    "is_admin_action",
    "timestamptz_send(created_at)",
    "actor",
    "ip_address",
    "request_id",
    "resource_id",
    "details",
    "salt",
    "who_digest",
    "what_digest",
)
WHO, WHAT = 1, 2  # parts of a row that can be erased
PACKED = Struct(">q8s")
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# How long `salt` is, by what was erased. A row without one was inserted by hand.
SALT_BYTES = {0: (16, 0), WHO: (32,), WHAT: (32,), WHO | WHAT: (0,)}

canonical = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
sha256 = hashlib.sha256


def key_of(part: int, salt: bytes) -> bytes:
    """Return what the commitment of a part begins with, 32 bytes; it tells nothing of the salt."""
    return salt if len(salt) == 32 else sha256((b"who" if part == WHO else b"what") + salt).digest()


def who_digest(salt: bytes, actor: str | None, address: str | None, request: str | None) -> bytes:
    """Return the commitment to who it was."""
    key = salt if len(salt) == 32 else sha256(b"who" + salt).digest()
    name = "null" if actor is None else quoted(actor)
    place = "null" if address is None else quoted(address)
    text = f"[{name},{place},{'null' if request is None else quoted(request)}]"
    return sha256(key + text.encode()).digest()


def what_digest(salt: bytes, resource_id: str | None, details: str | None) -> bytes:
    """Return the commitment to what it was."""
    key = salt if len(salt) == 32 else sha256(b"what" + salt).digest()
    name = "null" if resource_id is None else quoted(resource_id)
    text = f"[{name},{'null' if details is None else quoted(details)}]"
    return sha256(key + text.encode()).digest()


class Leaf(NamedTuple):
    """One row under a seal.

    Args:
        digest: of all of it, 32 bytes.
        erased: WHO, WHAT, both or 0.
        left: what stands in the erased columns; None where nothing was erased.
        mark: four bytes of the digest, and four that stay the same under another id.
    """

    id: int
    digest: bytes
    erased: int = 0
    left: tuple[str | None, ...] | None = None
    mark: bytes = b""

    @classmethod
    def of(cls, row: Iterable[Any]) -> Leaf:
        """Make it from a row of ROW."""
        (id_, action, resource, is_admin, sent, actor, address, request, resource_id, details,
         salt, who, what) = row  # fmt: skip
        salt = salt or b""
        erased = (0 if who is None else WHO) | (0 if what is None else WHAT)
        if len(salt) not in SALT_BYTES[erased]:
            return cls(id_, b"", erased, mark=bytes(8))  # is no row of ours
        left = None
        if erased:
            # The leaf holds them one behind the other: the border has to be where it was.
            if any(digest is not None and len(digest) != 32 for digest in (who, what)):
                return cls(id_, b"", erased, mark=bytes(8))
            left = (*((actor, address, request) if erased & WHO else ()),
                    *((resource_id, details) if erased & WHAT else ()))  # fmt: skip
        if who is None:
            who = who_digest(salt, actor, address, request)
        if what is None:
            what = what_digest(salt, resource_id, details)
        name = "null" if resource is None else quoted(resource)
        moment = int.from_bytes(sent, "big", signed=True)
        plain = f"[{id_},{quoted(action)},{name},{'true' if is_admin else 'false'},{moment}]"
        digest = leaf_hash(who + what + plain.encode())
        # As `cls(...)`, which takes twice as long.
        return tuple.__new__(cls, (id_, digest, erased, left, digest[:4] + who[:4]))


def root_of(leaves: Iterable[Leaf]) -> str:
    """Return the root of the tree over rows in the order of their ids, hexadecimal."""
    digests = [leaf.digest for leaf in leaves]
    return root(digests).hex() if digests else ""


def pack(leaves: Iterable[Leaf]) -> bytes:
    """Return what is kept of the rows, to name the one that changed."""
    return b"".join(PACKED.pack(leaf.id, leaf.mark) for leaf in leaves)


def unpack(packed: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield ids and marks. What is left over at a torn end is not a leaf."""
    whole = len(packed) - len(packed) % PACKED.size
    return PACKED.iter_unpack(packed[:whole])


def microseconds(moment: datetime) -> int:
    """Return a moment as it is signed: since 1970-01-01 UTC."""
    return (moment - EPOCH) // timedelta(microseconds=1)


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

    def sign(self, key_id: str | None, kind: str, values: Mapping[str, Any]) -> str:
        """Return HMAC-SHA256 of values, or SHA-256 where there is no key; hexadecimal.

        Args:
            kind: what is signed, such as `seal-v2`, so that one thing cannot pass for another.
            values: what JSON can say, and moments.
        """
        written = [
            microseconds(value) if isinstance(value, datetime) else value
            for value in values.values()
        ]
        message = canonical([kind, *written]).encode()
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
    root: str
    removal_count: int
    removals_digest: str
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
        return keys.sign(self.key_id, "seal-v2", asdict(self))
