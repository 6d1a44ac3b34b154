"""A proof holds for one row and the seals that it was made for, and for nothing else."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from audit.cli import CommandError
from audit.digests import ROW, WHAT, WHO, SealKeys
from audit.erase import erase
from audit.exported import Chain, NotProven, exported
from audit.known_person import Eraser
from audit.proof_commands import _follow, read_proof
from audit.proofs import CannotProve, from_json, prove, to_json, without
from audit.prune import prune
from audit.seals import seal
from audit.verify import NoArchive, exported_seals
from home.accounts.erasing import AccountEraser
from home.database.engine import Engine
from tests.audit.test_commands import audit
from tests.audit.test_erase import life_of_ada
from tests.audit.test_prune import when
from tests.audit.trails import KEY, KEYS, fill, seal_three_times, tamper
from tests.home.test_commands import NOWHERE, the_one_line

pytestmark = pytest.mark.any_version
NOBODY = SealKeys(None)


async def seals_in(db: Engine, file: Path) -> Path:
    file.write_bytes(b"".join([line async for line in exported_seals(db)]))
    return file


def problem_of(said: Any, seals: Path, keys: SealKeys = KEYS) -> str | None:
    """What is wrong with a proof, after JSON has carried it."""
    try:
        proof = from_json(json.loads(json.dumps(said)))
    except ValueError:
        return "no proof"
    try:
        _follow(Chain(seals, keys), proof, None)
    except NotProven as error:
        return str(error)
    return None


async def test_every_row_of_every_seal_is_proven(db: Engine, tmp_path: Path) -> None:
    await seal_three_times(db)
    seals = await seals_in(db, tmp_path / "seals")
    for id_ in (*range(1, 11), *range(12, 21), *range(22, 31)):
        assert problem_of(to_json(await prove(db, id_)), seals) is None


async def test_another_row_is_refused(db: Engine, tmp_path: Path) -> None:
    await seal_three_times(db)
    seals = await seals_in(db, tmp_path / "seals")
    proof, other, far = [dict(to_json(await prove(db, id_))) for id_ in (5, 6, 15)]
    for row in (other["row"], far["row"]):
        assert "row" in str(problem_of({**proof, "row": row}, seals))
        assert "row" in str(problem_of({**proof, "row": {**row, "id": 5}}, seals))


def changes_of(value: Any) -> Iterator[Any]:
    """Other values in the place of one."""
    match value:
        case bool():
            yield not value
        case int():
            yield from (value + 1, value - 1, -value, 2**63, str(value), None, 1e999, True)
        case str():
            yield from (value + "x", value[1:], value[:-1] + ("0" if value[-1:] != "0" else "1"),
                        value.swapcase(), f" {value}", None, 7, "", [], "\ud800")  # fmt: skip
        case None:
            yield from ("x", "", "00" * 32, 1, {})
        case list():
            yield from (value[1:], [*value, "00" * 32], value[::-1], [1], None, {})
        case dict():
            yield from ({**value, "x": 1}, {}, None, [])


def altered(said: Any) -> Iterator[tuple[str, Any]]:
    """Each field changed in turn, and left out, however deep it is."""
    for place in places(said):
        *way, last = place
        value = said
        for step in place:
            value = value[step]
        for new in changes_of(value):
            if new == value and type(new) is type(value):
                continue
            copied = copy.deepcopy(said)
            inner = copied
            for step in way:
                inner = inner[step]
            inner[last] = new
            yield f"{place}: {new!r}", copied


def places(said: Any, way: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if way:
        yield way
    if isinstance(said, dict | list):
        for step in said if isinstance(said, dict) else range(len(said)):
            yield from places(said[step], (*way, step))


@pytest.mark.parametrize("keys", [KEYS, NOBODY])
@pytest.mark.parametrize("id_", [1, 12, 20, 25])
async def test_each_field_changed_in_turn_is_refused(
    db: Engine, tmp_path: Path, id_: int, keys: SealKeys
) -> None:
    await seal_three_times(db)
    seals = await seals_in(db, tmp_path / "seals")
    said = dict(to_json(await prove(db, id_)))
    found = [what for what, each in altered(said) if problem_of(each, seals, keys) is None]
    assert found == []
    assert problem_of(said, seals, keys) is None


async def test_erased_rows_are_proven_by_commitments(db: Engine, tmp_path: Path) -> None:
    ada, other = await life_of_ada(db)
    await seal(db, KEYS)
    proofs = {
        row["id"]: to_json(await prove(db, row["id"]))
        for row in await db.fetch("SELECT id FROM audit_logs")
    }
    erasers: list[Eraser] = [AccountEraser()]
    await erase(db, KEYS, erasers, ada, "asked for it")
    await erase(db, KEYS, erasers, other, "asked for it, too")
    seals = await seals_in(db, tmp_path / "seals")
    kinds = set()
    for id_, before in proofs.items():
        proof = await prove(db, id_)
        kinds.add(proof.leaf.erased)
        said = to_json(proof)
        assert problem_of(said, seals) is None
        assert problem_of(before, seals) is None, "what was given away before still holds"
        if proof.leaf.erased == WHO:
            found = [what for what, each in altered(said) if problem_of(each, seals) is None]
            assert found == []
    assert kinds == {0, WHO, WHAT, WHO | WHAT}


@pytest.mark.parametrize("parts", [0, WHO, WHAT, WHO | WHAT])
async def test_parts_are_left_out_and_the_rest_is_proven(
    db: Engine, tmp_path: Path, parts: int
) -> None:
    await seal_three_times(db)
    seals = await seals_in(db, tmp_path / "seals")
    made = await prove(db, 17)
    said = to_json(without(made, parts))
    text = json.dumps(said)
    assert problem_of(said, seals) is None
    assert ("person17@example.com" in text, '\\"after\\"' in text) == (
        not parts & WHO,
        not parts & WHAT,
    )
    assert (made.row[ROW.index("salt")].hex() in text) == (not parts)
    assert without(without(made, WHO), WHAT) == without(made, WHO | WHAT)
    assert without(without(made, WHAT), parts) == without(made, parts | WHAT)
    found = [what for what, each in altered(said) if problem_of(each, seals) is None]
    assert found == []


async def test_a_row_without_a_salt_is_proven_without_a_part(db: Engine, tmp_path: Path) -> None:
    await fill(db, 1, 3)
    await tamper(db, "UPDATE audit_logs SET salt = NULL WHERE id = 2")
    await seal(db, KEYS)
    said = to_json(without(await prove(db, 2), WHO))
    assert problem_of(said, await seals_in(db, tmp_path / "seals")) is None


async def test_other_seals_are_refused(db: Engine, tmp_path: Path) -> None:
    await seal_three_times(db)
    seals = await seals_in(db, tmp_path / "seals")
    proof = to_json(await prove(db, 15))
    lines = seals.read_text().splitlines(keepends=True)
    other = tmp_path / "other"
    for content, problem in (
        (lines[:1], "seal 2 is not in"),
        (lines[1:], "seal 1 is missing"),
        ([lines[0], lines[2]], "seal 2 is missing"),
        ([lines[1].replace('"id":2', '"id":1')], "seal 1 does not follow"),
    ):
        other.write_text("".join(content))
        assert problem in str(problem_of(proof, other))
    await tamper(db, "DELETE FROM audit_seals; SELECT setval('audit_seals_id_seq', 1, false)")
    await seal(db, SealKeys("another key of thirty-two letters"))
    assert "another one" in str(problem_of(proof, await seals_in(db, other))) or "not in" in str(
        problem_of(proof, other)
    )


@pytest.mark.parametrize("keys", [KEYS, NOBODY])
async def test_each_field_of_a_seal_that_was_kept_is_checked(
    db: Engine, tmp_path: Path, keys: SealKeys
) -> None:
    """With the key all of them; without it at least what the chain and the proof say."""
    await seal_three_times(db, keys)
    lines = (await seals_in(db, tmp_path / "seals")).read_text().splitlines()
    other = tmp_path / "other"
    for what, each in altered(json.loads(lines[1])):
        other.write_text("\n".join([lines[0], json.dumps(each), lines[2]]))
        with pytest.raises((NotProven, CommandError)):
            print(what, len(list(Chain(other, keys))))


async def test_an_older_export_is_the_beginning_of_a_newer(db: Engine, tmp_path: Path) -> None:
    await fill(db, 1, 3)
    await seal(db, NOBODY)
    older = await seals_in(db, tmp_path / "older")
    await fill(db, 4, 6)
    await seal(db, KEYS)
    newer = await seals_in(db, tmp_path / "newer")
    assert _follow(Chain(newer, KEYS), None, older) == 1
    assert _follow(Chain(newer, KEYS), None, newer) == 2
    with pytest.raises(NotProven, match=r"seal 2 of .*newer is not in .*older as it was"):
        _follow(Chain(older, KEYS), None, newer)
    await tamper(db, "UPDATE audit_seals SET root = repeat('0', 64) WHERE id = 2")
    altered = await seals_in(db, tmp_path / "altered")
    with pytest.raises(NotProven, match=r"seal 2 of .*newer is not in .*altered as it was"):
        _follow(Chain(altered, NOBODY), None, newer)
    with pytest.raises(NotProven, match="seal 2 was made with a key that is not in"):
        _follow(Chain(newer, SealKeys("k" * 32)), None, older)


async def test_what_cannot_be_proven_is_said(db: Engine) -> None:
    await seal_three_times(db)
    await fill(db, 32, 33)
    for id_, said in ((32, "not sealed yet"), (99, "no row 99"), (11, "no row 11"), (-5, "no row")):
        with pytest.raises(CannotProve, match=said):
            await prove(db, id_)
    await prune(db, await when(15), KEYS)
    with pytest.raises(CannotProve, match="seal 1, where row 5 was, were pruned on 20"):
        await prove(db, 5)
    await tamper(db, "UPDATE audit_logs SET actor = 'x' WHERE id = 14")
    with pytest.raises(CannotProve, match="not as they were sealed"):
        await prove(db, 15)
    await tamper(db, "UPDATE audit_seals SET archived_at = now() WHERE id = 2")
    with pytest.raises(NoArchive):
        await prove(db, 15)


async def test_large_rows(db: Engine, tmp_path: Path) -> None:
    sql = "INSERT INTO audit_logs (action, details) SELECT 'x', to_jsonb(repeat('ü', $1))"
    await fill(db, 1, 3)
    await db.execute(sql, 3_000_000)
    await fill(db, 5, 6)
    await seal(db, KEYS)
    seals = await seals_in(db, tmp_path / "seals")
    for id_ in (3, 4, 5):
        assert problem_of(to_json(await prove(db, id_)), seals) is None


BAD = {
    "torn": b'{"format": "groundwork-proof-2", "row": {',
    "empty": b"",
    "another thing": b"[1, 2]",
    "no UTF-8": b'"\xff\xfe"',
    "huge number": b'{"leaf_index": ' + b"9" * 10_000 + b"}",
    "deep": b"[" * 200_000,
    "NaN": b"NaN",
}


@pytest.mark.parametrize("content", BAD.values(), ids=BAD.keys())
def test_a_file_that_is_none_is_a_sentence(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "file"
    file.write_bytes(content)
    with pytest.raises(CommandError, match="is not a proof as `piccolo audit prove` prints it"):
        read_proof(file)
    with pytest.raises(CommandError, match=r"is not a seal|holds no seals"):
        list(exported(file))


async def test_on_the_command_line(url: str, db: Engine, tmp_path: Path) -> None:
    """Whoever checks has neither the database nor the key."""
    await seal_three_times(db)
    proof, seals = tmp_path / "proof.json", tmp_path / "seals.ndjson"
    done = audit(url, "prove", "17")
    assert (done.returncode, done.stderr) == (0, "")
    proof.write_text(done.stdout)
    assert audit(url, "seals", f"--output={seals}").returncode == 0
    check = ("check_proof", str(proof), f"--seals={seals}", f"--older={seals}")
    done = audit(NOWHERE, *check, key="")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0].startswith("Proven: row 17 is under seal 2, as number 6 of 9, and was the same")
    assert "person17@example.com, from 10.0.0.1, r17" in lines[2]
    assert 'users.update, of users 17; details: {"after": {"n": 17}' in lines[3]
    assert lines[4].endswith("seals.ndjson: a chain of 3 seals, none missing between")
    assert lines[5].startswith("  3 with a key that is not known here")
    assert "3 made with AUDIT_SEAL_KEY" in audit(NOWHERE, *check, key=KEY).stdout
    said = audit(url, "prove", "17", "--without-who").stdout
    assert "person17" not in said
    (tmp_path / "less.json").write_text(said)
    done = audit(NOWHERE, "check_proof", str(tmp_path / "less.json"), f"--seals={seals}")
    assert "who:  erased, or left out; a commitment is there" in done.stdout
    proof.write_text(proof.read_text().replace("person17", "person18"))
    done = audit(NOWHERE, *check)
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout == "NOT PROVEN: row 17 is not under seal 2 as the proof says it is\n"
    found = json.loads(audit(NOWHERE, *check, "--json").stdout)
    assert (found["proven"], found["row"]) == (False, 17)
    assert the_one_line(audit(url, "prove", "4711")) == "There is no row 4711"
    assert the_one_line(audit(NOWHERE, "check_proof", str(tmp_path), f"--seals={seals}")).endswith(
        "cannot be read: Is a directory"
    )
    for words in (("check_proof", "x"), ("check_proof", "--seals=x"), ("prove", "9" * 30)):
        assert audit(NOWHERE, *words).returncode == 2
