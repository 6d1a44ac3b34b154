"""docs/verify_trail.py, which shares no code with the application, says what `verify` says."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from audit.cli import CommandError
from audit.digests import SealKeys
from audit.erase import erase
from audit.evidence import write_evidence
from audit.prune import prune
from audit.removals import NOW, Removal, store
from audit.seals import OtherKey, seal
from audit.verify import verify
from home.database.engine import Engine
from tests.audit.test_commands import audit
from tests.audit.test_erase import ERASERS, TAMPERINGS, erase_by_hand, life_of_ada
from tests.audit.test_verify import ALTERED, KEEP, LEAVES, MOVED, RESTORE, SEALS, forge
from tests.audit.trails import KEY, KEYS, fill, seal_three_times, tamper
from tests.conftest import ROOT

pytestmark = pytest.mark.any_version
SCRIPT = ROOT / "docs" / "verify_trail.py"
TABLES = ("audit_logs", "audit_seals", "audit_removals")
Verdict = tuple[str, int | None, int | None]  # kind, seal, row
INTACT: Verdict = ("intact", None, None)
OLD = "an older key of thirty-two letters"
NEW = "a newer key, also of thirty-two letters"


async def ours(db: Engine, keys: SealKeys = KEYS) -> Verdict:
    try:
        problem = (await verify(db, keys)).problem
    except OtherKey as error:
        words = str(error).split()  # «seal 2 was made with another ...»
        return "other_key", int(words[1]) if words[0] == "seal" else None, None
    return (problem.kind, problem.seal, problem.row) if problem else INTACT


async def theirs(db: Engine, folder: Path, key: str = KEY) -> Verdict:
    await write_evidence(db, folder)
    return said_of(folder, key)


def said_of(folder: Path, key: str = KEY) -> Verdict:
    done = subprocess.run(
        [sys.executable, "-I", "-S", str(SCRIPT), str(folder)],
        env={"AUDIT_SEAL_KEY": key}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    [line] = done.stdout.splitlines()
    said = json.loads(line)
    assert (done.returncode, done.stderr) == (int(not said["intact"]), "")
    return INTACT if said["intact"] else (said["kind"], said.get("seal"), said.get("row"))


async def both_agree(
    db: Engine, folder: Path, changes: Iterable[str], key: str = KEY
) -> dict[str, Verdict]:
    """The verdict on each change alone, which has to be the same of both."""
    found, differ = dict[str, Verdict](), list[Any]()
    await tamper(db, ";".join(KEEP.format(table) for table in TABLES))
    for number, change in enumerate(changes):
        await tamper(db, change)
        verdict, other = await ours(db, SealKeys(key)), await theirs(db, folder / str(number), key)
        found[change] = verdict
        if verdict != other:
            differ.append((change, verdict, other))
        await tamper(db, ";".join(RESTORE.format(table) for table in TABLES))
    assert differ == []
    assert await theirs(db, folder / "at the end", key) == await ours(db, SealKeys(key)) == INTACT
    return found


@pytest.mark.parametrize("changes", [ALTERED, MOVED, SEALS, LEAVES])
async def test_both_name_the_same_first_problem(
    db: Engine, tmp_path: Path, changes: Sequence[str]
) -> None:
    await seal_three_times(db)
    found = await both_agree(db, tmp_path, changes)
    assert INTACT not in found.values()


async def test_they_agree_on_erased_rows(db: Engine, tmp_path: Path) -> None:
    ada, other = await life_of_ada(db)
    await seal(db, KEYS)
    await erase(db, KEYS, ERASERS, ada, "asked for it")
    one = "SELECT min(id) FROM audit_logs WHERE {} IS NOT NULL AND {} IS NULL"
    who = await db.fetchval(one.format("who_digest", "what_digest"))
    what = await db.fetchval(one.format("what_digest", "who_digest"))
    changes = [sql.format(who=who, what=what, other=other) for sql in TAMPERINGS]
    found = await both_agree(db, tmp_path, changes)
    assert [kind for kind, _, _ in found.values()] == list(TAMPERINGS.values())
    await seal(db, KEYS)
    await erase(db, KEYS, ERASERS, other, "asked for it, too")
    await seal(db, KEYS)
    assert await theirs(db, tmp_path / "both") == await ours(db) == INTACT


async def test_a_commitment_does_not_reach_into_the_next(db: Engine, tmp_path: Path) -> None:
    """The leaf holds one behind the other: moving the border between them is an alteration."""
    ada, _ = await life_of_ada(db)
    await seal(db, KEYS)
    await erase(db, KEYS, ERASERS, ada, "asked for it")
    both = "who_digest IS NOT NULL AND what_digest IS NOT NULL"
    row = await db.fetchval(f"SELECT min(id) FROM audit_logs WHERE {both}")
    set_ = f"UPDATE audit_logs SET who_digest = {{}}, what_digest = {{}} WHERE id = {row}"
    changes = [
        set_.format("who_digest || substr(what_digest, 1, 1)", "substr(what_digest, 2)"),
        set_.format("substr(who_digest, 1, 31)", "substr(who_digest, 32) || what_digest"),
        set_.format("who_digest || what_digest", "''"),
    ]
    found = await both_agree(db, tmp_path, changes)
    assert set(found.values()) == {("altered", 1, row)}


async def test_they_agree_on_what_nobody_signed(db: Engine, tmp_path: Path) -> None:
    await life_of_ada(db)
    await seal(db, KEYS)
    row = await erase_by_hand(db, None)
    assert await theirs(db, tmp_path / "1") == await ours(db) == ("erased_unsigned", 1, row)


async def test_they_agree_on_removals_without_a_key(db: Engine, tmp_path: Path) -> None:
    await life_of_ada(db)
    await seal(db, SealKeys(None))
    await erase_by_hand(db, SealKeys(None))
    await fill(db, 1, 1)
    await seal(db, KEYS)
    assert await theirs(db, tmp_path / "1") == await ours(db) == INTACT
    [row] = await db.fetch("SELECT * FROM audit_removals")
    await store(db, SealKeys(None), Removal.of(row), row["rows"])
    assert await theirs(db, tmp_path / "2") == await ours(db) == ("removal_altered", 2, None)
    await seal(db, KEYS)
    assert await theirs(db, tmp_path / "3") == await ours(db) == ("removal_altered", 3, None)


async def test_they_agree_on_what_was_pruned(db: Engine, tmp_path: Path) -> None:
    await seal_three_times(db)
    await fill(db, 32, 33)
    await seal(db, KEYS)
    await prune(db, datetime.now(UTC) + timedelta(days=1), KEYS)
    await fill(db, 40, 45)
    await seal(db, KEYS)
    changes = [
        "INSERT INTO audit_logs (id, action) VALUES (7, 'forged')",
        "UPDATE audit_seals SET pruned_at = NULL WHERE id = 2",
        "DELETE FROM audit_removals",
        "UPDATE audit_removals SET last_seal = 3",
        "UPDATE audit_removals SET rows_digest = repeat('0', 64)",
        "DELETE FROM audit_logs; UPDATE audit_seals SET pruned_at = now()",
        "UPDATE audit_seals SET archived_at = now() WHERE id = 5",
    ]
    found = await both_agree(db, tmp_path, changes)
    assert INTACT not in found.values()
    await fake_a_prune(db, SealKeys(None))
    assert await theirs(db, tmp_path / "faked") == await ours(db) == ("removal_altered", 5, None)


async def fake_a_prune(db: Engine, keys: SealKeys) -> None:
    """Remove the rows of the last seal, and sign that with a key, or none."""
    [last] = await db.fetch("SELECT * FROM audit_seals ORDER BY id DESC LIMIT 1")
    removal = Removal(
        "prune", last["first_id"], last["last_id"], last["row_count"], last["id"], last["id"],
        last["digest"], None, "eve", "because", await db.fetchval(NOW), keys.newest,
    )  # fmt: skip
    await store(db, keys, removal)
    await tamper(db, f"DELETE FROM audit_logs WHERE id >= {last['first_id']}")
    await tamper(db, f"UPDATE audit_seals SET pruned_at = now() WHERE id = {last['id']}")


async def test_they_agree_on_keys(db: Engine, tmp_path: Path) -> None:
    for number, key in enumerate((None, OLD, f"{NEW},{OLD}", NEW), 1):
        await fill(db, number, number)
        await seal(db, SealKeys(key))
    expected: dict[str, Verdict] = {
        f"{NEW},{OLD}": INTACT,
        f" {OLD} , {NEW},": INTACT,
        NEW: ("other_key", 2, None),
        OLD: ("other_key", 3, None),
        "": ("other_key", 2, None),
    }
    for number, (key, verdict) in enumerate(expected.items()):
        assert await ours(db, SealKeys(key)) == verdict
        assert await theirs(db, tmp_path / str(number), key) == verdict
    await fake_a_prune(db, SealKeys("a key that nobody knows has thirty-two"))
    assert await ours(db, SealKeys(f"{NEW},{OLD}")) == ("other_key", None, None)
    assert await theirs(db, tmp_path / "x", f"{NEW},{OLD}") == ("other_key", None, None)


async def test_they_agree_on_seals_made_anew(db: Engine, tmp_path: Path) -> None:
    await seal_three_times(db, SealKeys(None))
    await forge(db, 2, SealKeys(None))
    verdict = await ours(db, SealKeys(None))
    assert verdict == await theirs(db, tmp_path / "1", "") == ("seal_altered", 3, None)


@pytest.mark.parametrize("keys", [KEYS, SealKeys(None)])
async def test_they_agree_on_an_empty_trail(db: Engine, tmp_path: Path, keys: SealKeys) -> None:
    assert await theirs(db, tmp_path / "1") == await ours(db, keys) == INTACT


async def test_values_of_all_kinds(db: Engine, tmp_path: Path) -> None:
    texts = ['\x01\x1f\x7f\u2028\ue000 \U0001f600\\"/\b\f\n\r\t', "", "null", "é"]
    for text in texts:
        await db.execute(
            "INSERT INTO audit_logs (action, actor, resource_id, details, is_admin_action)"
            " VALUES ('x', $1, $1::text, jsonb_build_object($1::text, 1.50, 'n', 1e400), true)",
            text,
        )  # fmt: skip
    await db.execute("INSERT INTO audit_logs (action, salt, details) VALUES ('x', NULL, 'null')")
    await db.execute("INSERT INTO audit_logs (action, created_at) VALUES ('x', '-infinity')")
    await db.execute(
        "INSERT INTO audit_logs (action, details) VALUES ('x', to_jsonb(repeat('ü', 2000000)))"
    )
    await seal(db, KEYS)
    assert await theirs(db, tmp_path / "1") == await ours(db) == INTACT


async def test_the_command_writes_new_files_only(url: str, db: Engine, tmp_path: Path) -> None:
    await seal_three_times(db)
    folder = tmp_path / "evidence"
    done = audit(url, "evidence", str(folder))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"wrote 28 rows, their seals and removals into {folder}\n"
    names = ["removals.ndjson", "rows.ndjson", "seals.ndjson", "trail.ndjson"]
    assert sorted(each.name for each in folder.iterdir()) == names
    assert said_of(folder) == INTACT
    assert audit(url, "evidence", str(folder)).returncode == 1
    (folder / "rows.ndjson").unlink()
    with pytest.raises(CommandError, match="is there already"):
        await write_evidence(db, folder)
    assert sorted(each.name for each in folder.iterdir()) == [
        name for name in names if name != "rows.ndjson"
    ]
    assert said_of(folder)[0] == "unreadable"


def test_it_is_short_and_needs_nothing() -> None:
    lines = SCRIPT.read_text(encoding="utf-8").splitlines()
    assert len(lines) < 150
    imports = [line for line in lines if line.startswith(("import", "from"))]
    assert imports == ["import hashlib, hmac, json, os, struct, sys", "from pathlib import Path"]
