"""Seals in a file of `piccolo audit seals`: read and checked without a database."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from audit.cli import CommandError
from audit.digests import Seal, SealKeys
from audit.ids import HIGHEST

LONGEST = 10_000  # bytes of a line
# Besides the fields of a seal. Moments are UTC, as PostgreSQL or Python write them.
MORE = ("algorithm", "digest")
NUMBERS = ("id", "first_id", "last_id", "row_count", "removal_count")
MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?", re.ASCII)
OPTIONAL = ("key_id", "previous_digest")
NAMES = {*(field.name for field in fields(Seal)), *MORE, "created_at_utc"} - {"created_at"}


class NotProven(Exception):
    """A proof, or a chain of seals, does not hold; the message says what is wrong."""


@dataclass(frozen=True)
class Exported:
    """A seal with its digest."""

    seal: Seal
    algorithm: str
    digest: str

    @classmethod
    def of(cls, values: Any) -> Exported:
        """Make it from what JSON says of a seal.

        Raises:
            ValueError: that is no seal.
        """
        if not isinstance(values, dict) or values.keys() != NAMES:
            raise ValueError
        for name, value in values.items():
            if name in NUMBERS:
                if not is_number(value):
                    raise ValueError
            elif not (isinstance(value, str) or (value is None and name in OPTIONAL)):
                raise ValueError
            str(value).encode()  # half of a surrogate pair is a ValueError, too
        rest = dict(values)
        written = rest.pop("created_at_utc")
        if not MOMENT.fullmatch(written):
            raise ValueError
        at = datetime.fromisoformat(written).replace(tzinfo=UTC)
        algorithm, digest = (rest.pop(name) for name in MORE)
        return cls(Seal(**rest, created_at=at), algorithm, digest)

    def values(self) -> Mapping[str, Any]:
        """Return what JSON is to say of it."""
        rest = asdict(self.seal)
        at = rest.pop("created_at").astimezone(UTC).replace(tzinfo=None)
        return {
            **rest,
            "algorithm": self.algorithm,
            "digest": self.digest,
            "created_at_utc": at.isoformat(),
        }


def is_number(value: object) -> bool:
    """Return whether it is one that PostgreSQL's bigint can hold."""
    return type(value) is int and -HIGHEST - 1 <= value <= HIGHEST


def exported(path: Path) -> Iterator[Exported]:
    """Yield the seals of a file.

    Raises:
        CommandError: it cannot be read, or holds something else.
    """
    number = 0
    try:
        with path.open("rb") as file:
            while line := file.readline(LONGEST):
                number += 1
                yield Exported.of(json.loads(line))
    except OSError as error:
        raise CommandError(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError):
        message = f"{path}, line {number}: is not a seal as `piccolo audit seals` prints it"
        raise CommandError(message) from None
    if not number:
        raise CommandError(f"{path} holds no seals: write it with `piccolo audit seals` first")


class Chain:
    """The seals of a file, each held against the one before while they are read.

    Args:
        keys: without any, those of seals are not checked.

    Attributes:
        count: how many there were.
        kinds: how many of them were `checked` with their key, `unchecked`, or are `keyless`.
    """

    def __init__(self, path: Path, keys: SealKeys) -> None:
        self.path = path
        self.keys = keys
        self.count = 0
        self.kinds: Counter[str] = Counter()

    def __iter__(self) -> Iterator[Exported]:
        """Yield them.

        Raises:
            NotProven: they are no chain.
            CommandError: the file is none of ours.
        """
        last: Exported | None = None
        for each in exported(self.path):
            if problem := self._problem(each, last):
                raise NotProven(f"{self.path}: {problem}")
            key_id = each.seal.key_id
            kind = "checked" if key_id in self.keys else "unchecked"
            self.kinds["keyless" if key_id is None else kind] += 1
            self.count += 1
            last = each
            yield each

    def _problem(self, each: Exported, last: Exported | None) -> str | None:
        seal, before = each.seal, last.seal if last else None
        expected = before.id + 1 if before else 1
        if seal.id != expected:
            return f"seal {expected} is missing"
        if seal.previous_digest != (last.digest if last else None):
            return f"seal {seal.id} does not follow the one before"
        if before and before.key_id and not seal.key_id:
            return f"seal {seal.id} has no key, as the one before has"
        if self.keys.newest and seal.key_id not in self.keys:
            return f"seal {seal.id} was made with a key that is not in AUDIT_SEAL_KEY"
        if seal.key_id in self.keys and seal.sign(self.keys) != each.digest:
            return f"seal {seal.id} was altered or forged: its digest is another"
        if each.algorithm != seal.algorithm or not _fits(seal, before):
            return f"seal {seal.id} says what no seal says"
        return None


def _fits(seal: Seal, before: Seal | None) -> bool:
    return (
        seal.row_count > 0
        and seal.first_id <= seal.last_id
        and (before is None or before.last_id < seal.first_id)
        and seal.removal_count >= (before.removal_count if before else 0)
    )
