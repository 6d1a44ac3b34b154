"""Backups are restored beside, verified, and what was found is on the trail."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import random
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

import piccolo_conf
from audit.seals import seal
from home.database.engine import Engine
from home.database.migrations import known_migrations
from home.drill import beside, checks
from home.drill.backup import Backup, DrillFailed
from home.drill.beside import NAME, Place, database_beside
from home.drill.restoring import restore
from home.pages.overview import trail
from tests.audit.trails import KEY, KEYS, fill, seal_three_times
from tests.conftest import ROOT, Done, run_groundwork
from tests.postgres import dump

# The programs are PostgreSQL's, whose versions are looked at in tests of their own.
pytestmark = [pytest.mark.any_version, pytest.mark.direct]

PERSON = "INSERT INTO users (email, password_hash) VALUES ('ada@example.com', '')"
DRILLS = f"SELECT datname FROM pg_database WHERE datname LIKE '{NAME}%'"
CONNECTED = f"SELECT count(*) FROM pg_stat_activity WHERE datname LIKE '{NAME}%'"
ON_TRAIL = "SELECT details::text FROM audit_logs WHERE action = 'restore.drilled' ORDER BY id"


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


def plain(url: str, folder: Path) -> str:
    return dump(url, folder / "plain.sql").read_text(encoding="utf-8")


def replaced(text: str, pattern: str, by: str) -> str:
    """The text with one line changed, as somebody does who can write to backups."""
    text, number = re.subn(pattern, by, text, flags=re.MULTILINE)
    assert number == 1
    return text


async def test_a_backup_is_restored_and_verified(sealed: Engine, url: str, tmp_path: Path) -> None:
    seals = tmp_path / "seals.ndjson"
    run_groundwork(url, "audit", "seals", f"--output={seals}")
    file = dump(url, tmp_path / "backup.dump", "--format=custom")
    await sealed.execute("INSERT INTO audit_logs (action) VALUES ('a.thing')")
    done, found = drill(url, file, f"--seals={seals}")
    assert (done.returncode, found["ok"], found["problems"]) == (0, True, [])
    assert found["bytes"] == file.stat().st_size
    assert found["sha256"] == subprocess.check_output(["sha256sum", file], text=True).split()[0]
    assert (found["trail"]["verified"], found["trail"]["unsealed"]) == (28, 1)
    assert found["seals"] == {"the live trail": 3, "seals.ndjson": 3}
    assert (found["rows"]["users"], found["rows"]["audit_logs"]) == ([1, 1], [29, 30])
    assert await recorded(sealed) == [found]
    assert await sealed.fetchval("SELECT count(*) FROM audit_logs") == 31
    assert await nothing_left(sealed)


async def test_the_overview_says_when_a_drill_went_well(db: Engine) -> None:
    """Nothing where there was none."""

    async def shown() -> tuple[list[str], list[str]]:
        panel = await trail(db, 3_600)
        figures = [each.value for each in panel.figures if "drill" in each.label]
        return figures, [each.sentence for each in panel.needs if "drill" in each.sentence]

    assert await shown() == ([], [])
    add = "INSERT INTO audit_logs (action, details, created_at) VALUES ('restore.drilled', $1, $2)"
    now = datetime.now(UTC)
    await db.execute(add, '{"ok": false}', now - timedelta(days=9))
    assert await shown() == (["never"], ["The last restore drill failed."])
    await db.execute(add, '{"ok": true}', now - timedelta(days=3))
    assert await shown() == (["3 days ago"], [])
    await db.execute(add, '{"ok": false}', now - timedelta(days=1))
    assert await shown() == (["3 days ago"], ["The last restore drill failed."])


async def test_two_at_once_of_which_one_was_altered(
    sealed: Engine, url: str, tmp_path: Path
) -> None:
    """Packed plain SQL, each into a database of its own."""
    text = plain(url, tmp_path)
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
    text = replaced(plain(url, tmp_path), r"^3\t22\t30\t.*\n", "")
    text = replaced(text, r"(audit_seals_id_seq', )3", r"\g<1>2")
    text = replaced(text, r"^ada@example.com\t", "eve@example.com\t")
    file = tmp_path / "cut.sql"
    file.write_text(text, encoding="utf-8")
    done, found = drill(url, file)
    assert done.returncode == 1
    assert found["problems"] == ["seals: seal 3 of the live trail is not in the backup"]
    assert (found["trail"]["problem"], found["trail"]["verified"]) == (None, 19)
    assert found["rows"]["users"] == [1, 1]


async def attempt(url: str, file: Path) -> str:
    """Restore a file in this process; return why it fails."""
    try:
        backup = Backup.look_at(file)
        async with database_beside(Place(url), piccolo_conf.SETTINGS, 1) as server:
            await restore(backup, server.place.environment(), server.major)
    except DrillFailed as error:
        return str(error)
    return ""


async def test_a_file_that_is_cut_off(sealed: Engine, url: str, tmp_path: Path) -> None:
    """It is said, and recorded, and the live database is as it was."""
    whole = dump(url, tmp_path / "backup.dump", "--format=custom")
    file = tmp_path / "cut.dump"
    file.write_bytes(whole.read_bytes()[: whole.stat().st_size * 2 // 3])
    done, found = drill(url, file)
    assert (done.returncode, found["ok"], found["restored"]) == (1, False, False)
    [problem] = found["problems"]
    assert problem.startswith("pg_restore could not restore it: could not read from input file")
    assert await recorded(sealed) == [found]
    assert await sealed.fetchval("SELECT count(*) FROM audit_logs") == 30
    assert await nothing_left(sealed)


async def test_pipes_are_not_waited_for(sealed: Engine, url: str, tmp_path: Path) -> None:
    pipe, file = tmp_path / "pipe", dump(url, tmp_path / "backup.dump", "--format=custom")
    os.mkfifo(pipe)
    for words in ([pipe], [file, f"--seals={pipe}"]):
        done, found = drill(url, *words)
        assert (done.returncode, found["problems"]) == (1, ["pipe is not a file"])


async def test_whose_connection_is_lost_leaves_nothing(
    sealed: Engine, url: str, tmp_path: Path
) -> None:
    """As the network may forget one that is silent while a large backup is restored."""
    its = f"query LIKE 'CREATE DATABASE \"{NAME}%'"
    end = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {its};\n--\n"
    complete = "-- PostgreSQL database dump complete"
    file = tmp_path / "lost.sql"
    file.write_text(plain(url, tmp_path).replace(complete, end + complete), encoding="utf-8")
    done, found = drill(url, file)
    assert (done.returncode, found["problems"]) == (0, [])
    assert await nothing_left(sealed)


async def test_archived_rows_are_verified(sealed: Engine, url: str, tmp_path: Path) -> None:
    """As the restored database names their files, from where they are."""
    archive = {"AUDIT_ARCHIVE": str(tmp_path / "archive"), "AUDIT_SEAL_KEY": KEY}
    before = await sealed.fetchval(
        "SELECT max(created_at) + interval '1 s' FROM audit_logs WHERE id < 13"
    )
    moved = run_groundwork(
        url, "audit", "archive", f"--before={before.isoformat()}", "--yes", **archive
    )
    assert moved.returncode == 0, moved.stderr
    file = dump(url, tmp_path / "backup.dump", "--format=custom")
    done, found = drill(url, file, **archive)
    assert (done.returncode, found["problems"]) == (0, [])
    assert (found["trail"]["verified"], found["trail"]["archived"]) == (28, 10)


BROKEN: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "zip": (lambda dump: b"PK" + dump, "is not a dump"),
    "head": (lambda dump: dump[:30], "is not a dump"),
    "empty": (lambda dump: b"", "is not a dump"),
    "gz": (lambda dump: gzip.compress(dump)[:-9], "broken or cut off: it cannot be unpacked"),
    "newer": (lambda dump: dump.replace(b"18.4", b"98.4", 1), "is of PostgreSQL 98"),
    "program": (
        lambda dump: b"98.4".join(dump.rsplit(b"18.4", 1)),
        "was made by pg_dump 98, which pg_restore 18 of this machine cannot read: install",
    ),
    "cluster": (
        lambda dump: b"--\n-- PostgreSQL database cluster dump\n--\nDROP ROLE ada;",
        "is of a whole server",
    ),
}


async def test_files_that_cannot_be_restored(sealed: Engine, url: str, tmp_path: Path) -> None:
    whole = dump(url, tmp_path / "backup.dump", "--format=custom").read_bytes()
    for name, (break_it, said) in BROKEN.items():
        file = tmp_path / name
        file.write_bytes(break_it(whole))
        assert said in await attempt(url, file), name
    assert "cannot be read: No such file" in await attempt(url, tmp_path / "none")
    assert "is not a file" in await attempt(url, tmp_path)
    assert await nothing_left(sealed)


# psql runs what stands in plain SQL. Without a lock of ours the file could open its own.
HOSTILE = (
    "\\! touch {}",
    "\\connect postgres",
    "\\unrestrict {{}}\n\\! touch {}",
    "SELECT 1 \\o {}",
    "\\copy users TO '{}'",
)


async def test_plain_sql_runs_no_program(sealed: Engine, url: str, tmp_path: Path) -> None:
    text = plain(url, tmp_path)
    key = re.search(r"\\restrict (\w+)", text)
    assert key, "pg_dump does lock psql"
    assert not await attempt(url, tmp_path / "plain.sql")
    for number, line in enumerate(HOSTILE):
        touched, file = tmp_path / f"touched{number}", tmp_path / "hostile.sql"
        evil = line.format(touched).format(key[1]) + "\nCREATE TABLE"
        file.write_text(text.replace("CREATE TABLE", evil, 1), encoding="utf-8")
        said = await attempt(url, file)
        assert "backslash commands are restricted" in said or "unrestrict" in said, line
        assert not touched.exists(), line
    assert await nothing_left(sealed)


async def test_plain_sql_that_is_cut_off(sealed: Engine, url: str, tmp_path: Path) -> None:
    """psql itself takes the end of the file for the end of the rows."""
    text, file = plain(url, tmp_path), tmp_path / "cut.sql"
    file.write_text(text[: text.index("\n15\t") + 1], encoding="utf-8")
    assert await attempt(url, file) == "cut.sql is cut off: its last line is missing"


async def test_backups_of_others_and_of_newer_releases(
    sealed: Engine, url: str, tmp_path: Path, empty_url: str
) -> None:
    other = Place(empty_url).engine(piccolo_conf.SETTINGS)
    await other.execute("CREATE TABLE migration (name varchar)")
    with pytest.raises(DrillFailed, match="of another one"):
        await checks.pending(other)
    newest = max(known_migrations())
    await other.execute("INSERT INTO migration VALUES ($1), ('home_2999')", newest)
    with pytest.raises(DrillFailed, match="newer release, whose migration home_2999"):
        await checks.pending(other)
    await other.execute("DELETE FROM migration WHERE name = 'home_2999'")
    assert await checks.pending(other) == sorted(known_migrations() - {newest})
    await other.close_connection_pool()


async def test_only_what_dead_drills_left_is_removed(db: Engine, url: str) -> None:
    """A drill that goes on holds its lock; other names are never touched."""
    dead, alive = f"{NAME}{1:014x}", f"{NAME}{0xDEADBEEFDEAD12:014x}"
    others = [f"{NAME}prod", f"{NAME}{'0' * 15}", f"my_{dead}"]
    holder = await db.get_new_connection()
    await holder.execute("SELECT pg_advisory_lock($1)", 0xDEADBEEFDEAD12)
    try:
        for name in (dead, alive, *others):
            await db.execute(f'CREATE DATABASE "{name}" STRATEGY file_copy')
        assert await beside.remove_left(holder) == 1
        left = {row["datname"] for row in await db.fetch("SELECT datname FROM pg_database")}
        assert {alive, *others} <= left
        assert dead not in left
    finally:
        await holder.close()
        for name in (alive, *others):
            await db.execute(f'DROP DATABASE IF EXISTS "{name}"')


async def test_a_role_that_may_not_make_databases(db: Engine, url: str) -> None:
    await db.execute("DROP ROLE IF EXISTS modest")
    await db.execute("CREATE ROLE modest LOGIN")
    modest = Place(url.replace("//postgres@", "//modest@"))
    with pytest.raises(DrillFailed, match=r"role modest may not .* ALTER ROLE modest CREATEDB"):
        async with database_beside(modest, piccolo_conf.SETTINGS, 1):
            pass
    await db.execute("DROP ROLE modest")


async def test_a_disk_without_room(db: Engine, url: str) -> None:
    """A server whose disk is full ends, with the live database."""
    with pytest.raises(DrillFailed, match=r"disk has \d+ MB left, and a copy may take \d{9}"):
        async with database_beside(Place(url), piccolo_conf.SETTINGS, 10**15):
            pass
    assert await nothing_left(db)


def test_what_a_drill_refuses(url: str, tmp_path: Path) -> None:
    """What is typed wrong exits 2; a backup that is not there is a drill that failed."""
    file = str(tmp_path / "none.dump")
    secret = run_groundwork(url, "home", "drill", file, "--into=postgresql://a:secret@b/c")
    assert (secret.returncode, "DRILL_URL" in secret.stderr) == (2, True)
    assert "secret" not in secret.stderr
    assert run_groundwork(url, "home", "drill", file, "--hours=0").returncode == 2
    pooled = run_groundwork(url, "home", "drill", file, DB_POOLER="transaction")
    assert (pooled.returncode, "leads to a pooler" in pooled.stdout) == (1, True)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_interrupted(
    sealed: Engine, url: str, tmp_path: Path, number: signal.Signals
) -> None:
    """It removes what it made, and is recorded."""
    text = plain(url, tmp_path)
    (tmp_path / "slow.sql").write_text(
        text.replace("\nCREATE", "\nSELECT pg_sleep(60);\nCREATE", 1)
    )
    process = start(url, tmp_path / "slow.sql")
    await begun(sealed)
    process.send_signal(number)
    assert process.wait() == {signal.SIGINT: 130, signal.SIGTERM: 143}[number]
    [found] = await recorded(sealed)
    assert (found["ok"], found["problems"]) == (False, ["it was interrupted"])
    assert await nothing_left(sealed)


@pytest.mark.long
async def test_killed(sealed: Engine, url: str, tmp_path: Path) -> None:
    """At ten random points: the live database is as it was, and the next drill removes the rest."""
    await fill(sealed, 31, 20_000)
    await seal(sealed, KEYS)
    file = dump(url, tmp_path / "backup.dump", "--format=custom")
    before, left = dump(url, tmp_path / "before.sql", "--restrict-key=x"), 0
    for _ in range(10):
        process = start(url, file)
        await begun(sealed)
        await asyncio.sleep(random.uniform(0, 1.5))
        process.kill()
        process.wait()
        left = max(left, len(await sealed.fetch(DRILLS)))
    after = dump(url, tmp_path / "after.sql", "--restrict-key=x")
    assert after.read_bytes() == before.read_bytes()
    done, found = drill(url, file)
    assert (done.returncode, found["problems"]) == (0, [])
    assert await nothing_left(sealed)
    assert left, "no kill hit the middle"


def start(url: str, file: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "home", "home", "drill", str(file)],
        cwd=ROOT,
        env={**os.environ, "DATABASE_URL": url, "AUDIT_SEAL_KEY": KEY},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


async def begun(db: Engine) -> None:
    """Wait until a drill has connected to its database."""
    async with asyncio.timeout(60):
        while not await db.fetchval(CONNECTED):
            await asyncio.sleep(0.02)
