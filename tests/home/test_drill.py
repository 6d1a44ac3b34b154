"""Backups are restored beside, verified, and what was found is on the trail."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from home.database.engine import Engine
from home.drill.beside import NAME, Place
from home.drill.restoring import all_named
from tests.audit.trails import KEY, seal_three_times
from tests.conftest import Done, run_groundwork

# The programs are PostgreSQL's, whose versions are looked at in tests of their own.
pytestmark = [pytest.mark.any_version, pytest.mark.direct]

PERSON = "INSERT INTO users (email, password_hash) VALUES ('ada@example.com', '')"
DRILLS = f"SELECT datname FROM pg_database WHERE datname LIKE '{NAME}%'"
ON_TRAIL = "SELECT details::text FROM audit_logs WHERE action = 'restore.drilled' ORDER BY id"


async def dump(url: str, file: Path, *options: str) -> Path:
    """Have pg_dump write a file."""
    newest = max([each async for each in all_named("pg_dump")])
    subprocess.run(
        [newest.path, *options, f"--file={file}"], env=Place(url).environment(), check=True
    )
    return file


def drill(url: str, *words: object, **env: str) -> tuple[Done, dict[str, Any]]:
    """Run it, and return what it found."""
    done = run_groundwork(
        url, "home", "drill", *map(str, words), "--json", **{"AUDIT_SEAL_KEY": KEY, **env}
    )
    return done, json.loads(done.stdout)


async def recorded(db: Engine) -> list[dict[str, Any]]:
    return [json.loads(row["details"]) for row in await db.fetch(ON_TRAIL)]


async def nothing_left(db: Engine) -> bool:
    return await db.fetch(DRILLS) == []


@pytest.fixture
async def sealed(db: Engine) -> Engine:
    """A database with 28 rows under three seals, a newer row, and a person."""
    await seal_three_times(db)
    await db.execute(PERSON)
    return db


async def plain(url: str, folder: Path) -> str:
    return (await dump(url, folder / "plain.sql")).read_text(encoding="utf-8")


def replaced(text: str, pattern: str, by: str) -> str:
    """The text with one line changed, as somebody does who can write to backups."""
    text, number = re.subn(pattern, by, text, flags=re.MULTILINE)
    assert number == 1
    return text


async def test_a_backup_is_restored_and_verified(sealed: Engine, url: str, tmp_path: Path) -> None:
    seals = tmp_path / "seals.ndjson"
    run_groundwork(url, "audit", "seals", f"--output={seals}")
    file = await dump(url, tmp_path / "backup.dump", "--format=custom")
    await sealed.execute("INSERT INTO audit_logs (action) VALUES ('a.thing')")
    done, found = drill(url, file, f"--seals={seals}")
    assert (done.returncode, done.stderr, found["problems"]) == (0, "", [])
    assert found["ok"]
    assert found["bytes"] == file.stat().st_size
    assert found["sha256"] == subprocess.check_output(["sha256sum", file], text=True).split()[0]
    assert (found["trail"]["verified"], found["trail"]["unsealed"]) == (28, 1)
    assert found["seals"] == {"the live trail": 3, "seals.ndjson": 3}
    assert (found["rows"]["users"], found["rows"]["audit_logs"]) == ([1, 1], [29, 30])
    assert await recorded(sealed) == [found]
    assert await sealed.fetchval("SELECT count(*) FROM audit_logs") == 31
    assert await nothing_left(sealed)


async def test_two_at_once_of_which_one_was_altered(
    sealed: Engine, url: str, tmp_path: Path
) -> None:
    """Packed plain SQL, each into a database of its own."""
    text = await plain(url, tmp_path)
    good, bad = tmp_path / "good.sql.gz", tmp_path / "bad.sql.gz"
    good.write_bytes(gzip.compress(text.encode()))
    altered = replaced(text, r"^(5\t\S+\t)person5@example.com", r"\1person6@example.com")
    bad.write_bytes(gzip.compress(altered.encode()))
    results = await asyncio.gather(*(asyncio.to_thread(drill, url, each) for each in (good, bad)))
    assert [(done.returncode, found["problems"]) for done, found in results] == [
        (0, []),
        (1, ["trail: row 5 was altered"]),
    ]
    assert {each["file"]: each["ok"] for each in await recorded(sealed)} == {
        "good.sql.gz": True,
        "bad.sql.gz": False,
    }
    assert await nothing_left(sealed)


async def test_a_trail_without_its_last_seal(sealed: Engine, url: str, tmp_path: Path) -> None:
    """Nothing in the backup tells: its sequence was set back. The live trail knows better. What no
    seal covers is only counted."""
    await sealed.execute(
        "INSERT INTO audit_logs (action, created_at) VALUES ('a.thing', now() + interval '1 day')"
    )
    text = replaced(await plain(url, tmp_path), r"^3\t22\t30\t.*\n", "")
    text = replaced(text, r"(audit_seals_id_seq', )3", r"\g<1>2")
    text = replaced(text, r"^1\tada@example.com", "1\teve@example.com")
    file = tmp_path / "cut.sql"
    file.write_text(text, encoding="utf-8")
    done, found = drill(url, file)
    assert done.returncode == 1
    assert found["problems"] == ["seals: seal 3 of the live trail is not in the backup"]
    assert (found["trail"]["problem"], found["trail"]["verified"]) == (None, 19)
    assert found["rows"]["users"] == [1, 1]


BROKEN: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "cut": (lambda dump: dump[: len(dump) * 2 // 3], "pg_restore could not restore it: could not"),
    "none": (lambda dump: b"PK" + dump, "none is not a dump"),
    "head": (lambda dump: dump[:30], "is not a dump"),
    "empty": (lambda dump: b"", "is not a dump"),
    "gz": (lambda dump: gzip.compress(dump)[:-9], "broken or cut off: it cannot be unpacked"),
}


@pytest.mark.parametrize("name", BROKEN)
async def test_what_cannot_be_restored(sealed: Engine, url: str, tmp_path: Path, name: str) -> None:
    file = tmp_path / name
    whole = await dump(url, tmp_path / "backup.dump", "--format=custom")
    break_it, said = BROKEN[name]
    file.write_bytes(break_it(whole.read_bytes()))
    done, found = drill(url, file)
    assert done.returncode == 1
    [problem] = found["problems"]
    assert said in problem
    assert (found["ok"], found["restored"]) == (False, False)
    assert await recorded(sealed) == [found]
    assert found["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
    assert await nothing_left(sealed)


HOSTILE = (
    "\\! touch {}",
    "\\connect postgres",
    "\\unrestrict x\n\\! touch {}",
    "SELECT 1 \\o {}",
    "\\copy users TO '{}'",
)


@pytest.mark.parametrize("line", HOSTILE)
async def test_plain_sql_runs_no_program(
    sealed: Engine, url: str, tmp_path: Path, line: str
) -> None:
    touched, file = tmp_path / "touched", tmp_path / "hostile.sql"
    text = await plain(url, tmp_path)
    evil = line.format(touched) + "\nCREATE TABLE"
    file.write_text(text.replace("CREATE TABLE", evil, 1), encoding="utf-8")
    done, found = drill(url, file)
    assert done.returncode == 1
    assert (
        "backslash commands are restricted" in found["problems"][0]
        or "\\unrestrict" in (found["problems"][0])
    )
    assert not touched.exists()
    assert await nothing_left(sealed)


async def test_plain_sql_that_is_cut_off(sealed: Engine, url: str, tmp_path: Path) -> None:
    """psql itself takes the end of the file for the end of the rows."""
    file = tmp_path / "cut.sql"
    text = await plain(url, tmp_path)
    file.write_text(text[: text.index("person15@")], encoding="utf-8")
    done, found = drill(url, file)
    assert (done.returncode, found["problems"]) == (
        1,
        ["cut.sql is cut off: its last line is missing"],
    )
