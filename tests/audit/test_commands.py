"""`piccolo audit ...`, run as a person or a script would run it."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from audit.cli import CommandError
from audit.commands import read_seals
from audit.history import changes
from audit.printable import printable
from audit.tables import AuditLog
from home.database.engine import Engine
from home.tables import User
from tests.audit.trails import FILL, KEY, fill, seal_three_times, tamper
from tests.conftest import ROOT, Done, run_groundwork, run_piccolo
from tests.home.test_commands import NOWHERE, Terminal, the_one_line

pytestmark = pytest.mark.any_version


def audit(url: str, *arguments: str, key: str = KEY) -> Done:
    return run_groundwork(url, "audit", *arguments, AUDIT_SEAL_KEY=key)


async def last_event(action: str) -> dict[str, Any]:
    rows = AuditLog.select().where(AuditLog.action == action)
    found = await rows.order_by(AuditLog.id, ascending=False).first()
    assert found is not None
    return {**json.loads(found["details"]), "actor": found["actor"]}


async def test_seal_then_verify(url: str, db: Engine) -> None:
    await fill(db, 1, 3)
    assert audit(url, "seal").stdout == "sealed 3 rows under 1 seal\n"
    assert audit(url, "seal").stdout == "nothing to seal\n"
    done = audit(url, "verify")
    assert (done.returncode, done.stderr) == (0, "")
    said = "verified 3 rows under 1 seal (0 rows pruned before, 0 not sealed yet)\n"
    assert done.stdout == said
    event = await last_event("audit.verify")
    assert (event["intact"], event["verified"], event["actor"][:4]) == (True, 3, "cli:")


async def test_verify_exits_1_and_names_the_row(url: str, db: Engine) -> None:
    await seal_three_times(db)
    await tamper(db, "UPDATE audit_logs SET actor = 'x' WHERE id = 17")
    done = audit(url, "verify")
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout.endswith("NOT AS SEALED: row 17 was altered\n")
    done = audit(url, "verify", "--json")
    assert done.returncode == 1
    found = json.loads(done.stdout)
    assert (found["intact"], found["verified"], found["seals"]) == (False, 10, 1)
    problem = {"kind": "altered", "seal": 2, "row": 17, "message": "row 17 was altered"}
    assert found["problem"] == problem
    assert (await last_event("audit.verify"))["problem"] == "row 17 was altered"


async def test_a_wrong_or_missing_key_is_not_called_tampering(url: str, db: Engine) -> None:
    await seal_three_times(db)
    for key in ("", "another key of thirty-two letters"):
        line = the_one_line(audit(url, "verify", key=key))
        assert line.startswith("Seal 1 was made with another AUDIT_SEAL_KEY")
    assert "AUDIT_SEAL_KEY: each key needs 32" in audit(url, "seal", key="short").stderr


async def test_seals_without_a_key_are_said_to_prove_less(url: str, db: Engine) -> None:
    await fill(db, 1, 3)
    audit(url, "seal", key="")
    done = audit(url, "verify")
    assert done.returncode == 0
    assert "1 seal without AUDIT_SEAL_KEY" in done.stdout


async def test_seals_kept_elsewhere_find_a_trail_that_was_cut(
    url: str, db: Engine, tmp_path: Path
) -> None:
    await seal_three_times(db)
    file = tmp_path / "seals.ndjson"
    assert audit(url, "seals", f"--output={file}").returncode == 0
    assert audit(url, "seals").stdout == file.read_text()
    assert [json.loads(line)["id"] for line in file.read_text().splitlines()] == [1, 2, 3]
    assert audit(url, "verify", f"--seals={file}").returncode == 0
    cut = "DELETE FROM audit_logs WHERE id > 20; DELETE FROM audit_seals WHERE id > 2;"
    await tamper(db, cut + "SELECT setval('audit_seals_id_seq', 2)")
    assert audit(url, "verify").returncode == 0
    done = audit(url, "verify", f"--seals={file}")
    assert (done.returncode, done.stderr) == (1, "")
    assert "seal 3 was removed, and all after it" in done.stdout


def test_a_file_of_seals_that_is_none_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "seals"
    line = the_one_line(audit(NOWHERE, "verify", f"--seals={file}"))
    assert line.endswith("cannot be read: No such file or directory")
    file.touch()
    with pytest.raises(CommandError, match="holds no seals"):
        read_seals(file)
    for content in (b"\xff\xfe", b"{}", b"[1]", b'{"id": 1, "digest": "x"}\n1e', b"[" * 100_000):
        file.write_bytes(content)
        with pytest.raises(CommandError, match=r"line \d+: is not a seal as `piccolo audit seals`"):
            read_seals(file)


async def test_what_is_logged_is_no_part_of_the_result(url: str, db: Engine) -> None:
    await fill(db, 1, 3)
    done = run_groundwork(url, "audit", "export", DB_SLOW_QUERY_MS="1")
    assert "slow_query" in done.stderr
    assert [json.loads(line)["id"] for line in done.stdout.splitlines()]


async def test_export_to_a_file_which_is_never_overwritten(
    url: str, db: Engine, tmp_path: Path
) -> None:
    await fill(db, 1, 5)
    file = tmp_path / "trail.csv"
    option = f"--output={file}"
    done = audit(url, "export", option, "--format=csv", "--action=users.update")
    assert (done.returncode, done.stdout) == (0, f"exported 5 rows to {file}\n")
    content = file.read_bytes()
    assert len(content.splitlines()) == 6
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert the_one_line(audit(url, "export", option)).endswith(
        "is there already; choose another name"
    )
    assert file.read_bytes() == content
    event = await last_event("audit.export")
    assert event["filters"] == {"action": "users.update"}
    assert (event["rows"], event["format"], event["actor"][:4]) == (5, "csv", "cli:")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("export", "--format=xml"), "--format is one of ndjson, csv; see --help"),
        (("export", "--since=2026-02-30"), "--since: «2026-02-30» is not a date such as"),
        (("export", "--user=ada"), "--user needs a number below 2147483648; see --help"),
        (("prune",), "Missing a required argument: 'before'; see --help"),
        (("prune", "--before=31.12.2025", "--yes"), "--before: «31.12.2025» is not a date"),
        (("history", "users"), "Missing a required argument: 'resource_id'"),
    ],
)
def test_wrong_options_are_refused(arguments: tuple[str, ...], complaint: str) -> None:
    assert the_one_line(run_piccolo(NOWHERE, "audit", *arguments), code=2).startswith(complaint)


async def test_what_is_to_come_is_not_pruned(url: str) -> None:
    line = the_one_line(audit(url, "prune", "--before=2999-01-01"), code=2)
    assert line == "--before is a date in the past; see --help"


@pytest.mark.direct  # a pooler keeps connections of before
async def test_a_server_that_takes_no_changes_can_be_verified(url: str, db: Engine) -> None:
    await seal_three_times(db)
    name = urlsplit(url).path[1:]
    await db.execute(f'ALTER DATABASE "{name}" SET default_transaction_read_only = on')
    try:
        done = audit(url, "verify")
    finally:
        await db.execute(f'ALTER DATABASE "{name}" RESET default_transaction_read_only')
    assert done.returncode == 0
    assert done.stdout.startswith("verified 28 rows under 3 seals")
    assert "\nThis verification is not on the trail: " in done.stderr


@pytest.mark.parametrize("words", [("seals",), ("export",), ("verify", "--json"), ("--help",)])
async def test_a_full_standard_output_is_one_line(url: str, db: Engine, words: Any) -> None:
    await seal_three_times(db)
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "home", "audit", *words],
            cwd=ROOT, env={**os.environ, "DATABASE_URL": url, "AUDIT_SEAL_KEY": KEY},
            stdout=full, stderr=subprocess.PIPE, text=True, check=False,
        )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr == "The output cannot be written: No space left on device\n"


def test_no_patience_is_less_than_none() -> None:
    assert audit(NOWHERE, "seal", "--patience=-1").returncode == 2


@pytest.mark.parametrize("path", ["missing/trail.csv", ".", "/dev/full"])
async def test_a_file_that_cannot_be_written_is_said_in_a_line(
    url: str, db: Engine, tmp_path: Path, path: str
) -> None:
    await fill(db, 1, 5)
    line = the_one_line(audit(url, "export", f"--output={tmp_path / path}"))
    assert "cannot be written" in line or "is there already" in line


async def test_a_full_disk_leaves_no_half_of_a_file(url: str, db: Engine, tmp_path: Path) -> None:
    await fill(db, 1, 5000)
    file = tmp_path / "trail.ndjson"
    command = f"ulimit -f 64; exec '{piccolo()}' audit export --output='{file}'"
    done = subprocess.run(
        ["bash", "-c", f"trap '' XFSZ; {command}"],
        cwd=ROOT, env={**os.environ, "DATABASE_URL": url},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert the_one_line(done) == f"{file} cannot be written: File too large"
    assert not file.exists()
    assert (await last_event("audit.export"))["rows"] > 0


async def test_who_reads_only_the_beginning_ends_it_quietly(url: str, db: Engine) -> None:
    await fill(db, 1, 20_000)
    with start(url, "export") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert json.loads(process.stdout.readline())["action"] == "users.update"
        process.stdout.close()
        assert (process.wait(60), process.stderr.read()) == (141, b"")
    assert 0 < (await last_event("audit.export"))["rows"] < 20_000


async def test_ctrl_c_ends_an_export_and_it_is_recorded(url: str, db: Engine) -> None:
    await fill(db, 1, 20_000)
    process = start(url, "export")
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (130, b"Interrupted\n")
    assert len(out.splitlines()) < 20_000
    assert 0 < (await last_event("audit.export"))["rows"] < 20_000


async def test_prune_tells_first_and_removes_with_yes(url: str, db: Engine) -> None:
    await seal_three_times(db)
    [at] = await AuditLog.select(AuditLog.created_at).where(AuditLog.id == 25)
    before = f"--before={at['created_at'].isoformat()}"
    done = audit(url, "prune", before)
    assert done.returncode == 0
    assert done.stdout.startswith("would remove 19 rows (up to id 20), all before 20")
    assert done.stdout.endswith(" UTC; do it with --yes\n")
    assert await AuditLog.count() == 28
    done = audit(url, "prune", before, "--yes")
    assert (done.returncode, done.stdout) == (0, "removed 19 rows; their seals stay\n")
    assert (await last_event("audit.prune"))["actor"].startswith("cli:")
    assert "verified 9 rows under 3 seals (19 rows pruned" in audit(url, "verify").stdout
    assert audit(url, "prune", before, "--yes").stdout.startswith("nothing to remove")


async def test_history_tells_what_happened_to_a_record(url: str, member: User) -> None:
    await User.update({User.display_name: "Mel \x1b[31m B."}).where(User.id == member.id)
    id_ = str(member.id)
    await member.remove()
    done = audit(url, "history", "users", id_)
    assert (done.returncode, done.stderr) == (0, "")
    events = [line for line in done.stdout.splitlines() if not line.startswith(" ")]
    assert [line.split()[2] for line in events] == ["users.insert", "users.update", "users.delete"]
    assert "    email: mel@example.com" in done.stdout.splitlines()
    assert "    display_name: null → Mel \\x1b[31m B." in done.stdout.splitlines()
    lines = audit(url, "history", "users", id_, "--json").stdout.splitlines()
    details = [json.loads(line)["details"] for line in lines]
    assert [list(each) for each in details] == [["after"], ["after", "before"], ["before"]]


async def test_history_of_what_nobody_knows(url: str) -> None:
    line = the_one_line(audit(url, "history", "users", "4242"))
    assert line == "The trail holds nothing about users 4242"


async def test_a_person_at_a_terminal_sees_a_table_and_progress(url: str, db: Engine) -> None:
    await db.fetch(FILL, 1, 30_000)
    shown = {}
    for arguments in (["history", "users", "42"], ["seal"], ["export", "--output=/dev/null"]):
        person = Terminal(url, "audit", *arguments)
        person.leave()
        shown[arguments[0]] = person.output
        person.switch_off()
    assert "person42@example.com" in shown["history"]
    assert "When and who" in shown["history"]
    assert "n: 41 → 42" in shown["history"]
    assert "sealing" in shown["seal"]
    assert "/30000" in shown["seal"]
    assert "sealed 30000 rows under 3 seals" in shown["seal"]


@pytest.mark.parametrize(
    ("details", "lines"),
    [
        (None, []),
        ('{"before": {"a": 1}, "after": {"a": null}}', ["a: 1 → null"]),
        ('{"after": {"a": "x\\ny"}}', ["a: x\\ny"]),
        ('{"rows": 5, "more": {"x": []}}', ["rows: 5", 'more: {"x": []}']),
        ("[1, 2]", ["[1, 2]"]),
        ('{"before": 1, "after": [2]}', ["before: 1", "after: [2]"]),
        ("[" * 5000 + "]" * 5000, ["[" * 5000 + "]" * 5000]),
    ],
)
def test_changes_in_words(details: str | None, lines: list[str]) -> None:
    assert list(changes({"details": details})) == lines


def test_nothing_printed_moves_a_terminal() -> None:
    assert printable("a\x1b[2J\r\n\u202eb\x9b") == "a\\x1b[2J\\r\\n\\u202eb\\x9b"


def piccolo() -> str:
    return str(Path(sys.executable).parent / "piccolo")


def start(url: str, *arguments: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [piccolo(), "audit", *arguments],
        cwd=ROOT, env={**os.environ, "DATABASE_URL": url},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
