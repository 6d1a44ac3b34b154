"""docs/seal-format.md says what the code does: its test vectors, computed anew."""

from __future__ import annotations

import json
import re
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from audit.digests import WHAT, WHO, Leaf, Seal, SealKeys, key_of, pack, root_of, unpack
from audit.digests import what_digest as digest_of_what
from audit.digests import who_digest as digest_of_who
from audit.evidence import FILES, FORMAT, NAMES
from audit.removals import Removal
from tests.audit.test_second_verifier import INTACT, said_of
from tests.conftest import ROOT

PAGE = (ROOT / "docs" / "seal-format.md").read_text(encoding="utf-8")
VECTORS = PAGE.partition("## Evidence, and test vectors")[2]
[KEY] = re.findall(r"The\s+key is `([^`]+)`", VECTORS)
BLOCKS = [
    [json.loads(line) for line in block.splitlines()]
    for block in re.findall(r"^```json\n(.*?)^```", VECTORS, re.DOTALL | re.MULTILINE)
]
BYTES = ("salt", "who_digest", "what_digest")
TRAIL, ROWS, SEALS, REMOVALS, BETWEEN = BLOCKS


def leaf(row: dict[str, Any]) -> Leaf:
    said = dict(row)
    said["created_at"] = row["created_at"].to_bytes(8, "big", signed=True)
    for name in BYTES:
        said[name] = None if row[name] is None else bytes.fromhex(row[name])
    return Leaf.of([said[name] for name in NAMES])


def moment(microseconds: int) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=microseconds)


def test_leaves_and_marks() -> None:
    found = [leaf(row) for row in ROWS]
    assert [each.digest.hex() for each in found] == [each["leaf"] for each in BETWEEN]
    assert [each.mark.hex() for each in found] == [each["mark"] for each in BETWEEN]
    assert [each.erased for each in found] == [0, 0, WHO, WHO | WHAT]


@pytest.mark.parametrize(("row", "between"), list(zip(ROWS, BETWEEN, strict=True)))
def test_commitments(row: dict[str, Any], between: dict[str, Any]) -> None:
    salt = bytes.fromhex(row["salt"] or "")
    if row["who_digest"] is None:
        assert key_of(WHO, salt).hex() == between["who_key"]
        texts = (row["actor"], row["ip_address"], row["request_id"])
        assert digest_of_who(salt, *texts).hex() == between["who"]
    if row["what_digest"] is None:
        assert key_of(WHAT, salt).hex() == between["what_key"]
        assert digest_of_what(salt, row["resource_id"], row["details"]).hex() == between["what"]
    for part in ("who", "what"):
        assert row[f"{part}_digest"] in (None, between[part])


def test_seals() -> None:
    keys, leaves = SealKeys(KEY), [leaf(row) for row in ROWS]
    assert f"its id `{keys.newest}`" in VECTORS
    for seal, rows in zip(SEALS, (leaves[:1], leaves[1:]), strict=True):
        values = {**seal, "created_at": moment(seal["created_at"])}
        assert Seal.of(values).sign(keys) == seal["digest"]
        assert (root_of(rows), pack(rows).hex()) == (seal["root"], seal["leaves"])
        assert [id_ for id_, _ in unpack(bytes.fromhex(seal["leaves"]))] == [row.id for row in rows]
        digests = "".join(each["digest"] for each in REMOVALS[: seal["removal_count"]])
        assert sha256(digests.encode()).hexdigest() == seal["removals_digest"]
    node = sha256(b"\1" + leaves[1].digest + leaves[2].digest).digest()
    assert f"The node over rows 8 and 10 is `{node.hex()}`" in VECTORS
    assert sha256(b"\1" + node + leaves[3].digest).hexdigest() == SEALS[1]["root"]


def test_removals() -> None:
    [removal] = REMOVALS
    values = {field.name: removal[field.name] for field in fields(Removal)}
    values["created_at"] = moment(removal["created_at"])
    assert Removal(**values).sign(SealKeys(KEY)) == removal["digest"]
    assert sha256(bytes.fromhex(removal["rows"])).hexdigest() == removal["rows_digest"]


def test_the_second_verifier_finds_them_intact(tmp_path: Path) -> None:
    blocks = dict(zip(("trail", "rows", "seals", "removals"), BLOCKS, strict=False))
    assert (set(blocks), TRAIL[0]["format"]) == (set(FILES), FORMAT)
    for name, block in blocks.items():
        text = "".join(f"{json.dumps(line)}\n" for line in block)
        (tmp_path / f"{name}.ndjson").write_text(text)
    assert said_of(tmp_path, KEY) == INTACT
    assert said_of(tmp_path, "") == ("other_key", None, None)
