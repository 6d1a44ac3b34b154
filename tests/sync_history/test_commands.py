"""`piccolo sync_history ...`, run as a person or a script would run it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from audit.tables import AuditLog
from home.database.engine import Engine
from sync_history.tables import SyncRun
from tests.conftest import ROOT, Done, run_groundwork, run_piccolo
from tests.home.test_commands import NOWHERE, Terminal, the_one_line
from tests.sync_history.conftest import until

pytestmark = pytest.mark.any_version

EXAMPLES = "tests.sync_history.examples"


def sync(
    url: str,
    *arguments: str,
    sources: str = EXAMPLES,
    run: Callable[..., Done] = run_groundwork,
) -> Done:
    return run(url, "sync_history", *arguments, SYNC_SOURCES=sources)


def start(url: str, *arguments: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [str(Path(sys.executable).parent / "piccolo"), "sync_history", *arguments],
        cwd=ROOT, env={**os.environ, "DATABASE_URL": url, "SYNC_SOURCES": EXAMPLES},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


async def the_run(*status: str) -> SyncRun:
    """The only run, once it is in one of these states."""
    for _ in range(400):
        if found := await SyncRun.objects():
            return await until(found[0].id, *status)
        await asyncio.sleep(0.05)
    raise AssertionError("no run has begun")


@pytest.mark.parametrize(
    ("source", "code", "status", "said"),
    [
        ("quick", 0, "succeeded", ""),
        ("partly", 3, "partial",
         "line 3: has no e-mail address \\x1b[31m\n1 of 3 items failed, see the error details.\n"),
        ("broken", 1, "failed", "The other side is closed on Saturdays.\n"),
    ],
)  # fmt: skip
async def test_the_exit_code_tells_how_it_ended(
    url: str, db: Engine, source: str, code: int, status: str, said: str
) -> None:
    done = sync(url, "run", source)
    assert (done.returncode, done.stderr) == (code, said)
    assert done.stdout.startswith(f"run 1: {status}; ")
    [run] = await SyncRun.objects()
    assert (run.source, run.status, run.trigger_type) == (source, status, "manual")
    trail = await AuditLog.select().where(AuditLog.resource == "sync_history")
    assert {row["actor"].partition(":")[0] for row in trail} == {"cli"}


async def test_a_dry_run_prints_what_it_would_do(url: str, db: Engine) -> None:
    done = sync(url, "run", "quick", "--dry-run", "--force")
    assert done.stdout.splitlines()[:3] == [f"would sync item {n}" for n in range(3)]
    [run] = await SyncRun.objects()
    assert (run.dry_run, run.force) == (True, True)


async def test_only_what_failed_is_run_once_more(url: str, db: Engine) -> None:
    assert sync(url, "run", "partly").returncode == 3
    done = sync(url, "run", "partly", "--retry-of=1")
    assert done.returncode == 0, done.stderr
    again = await SyncRun.objects().get(SyncRun.id == 2)
    assert again is not None
    assert (again.retry_of, again.items_synced) == (1, 1)
    line = the_one_line(sync(url, "run", "partly", "--retry-of=2"))
    assert line == "Of run 2 nothing can be done once more alone. Run partly as a whole."


async def test_a_source_that_is_running_is_not_started_again(url: str, db: Engine) -> None:
    await SyncRun(source="quick", status="running").save()
    line = the_one_line(sync(url, "run", "quick"))
    assert line == "Run 1 of quick is not over yet. Wait for it, or cancel it."


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("run",), "Missing a required argument: 'source'; see --help"),
        (("run", "quick", "--dry-run=no"), "--dry-run is a flag"),
        (("run", "nothing"), "There is no source of this name. Known are: broken, partly, quick"),
        (("run", "\x1b[2J"), "There is no source of this name."),
        (("list", "--limit=0"), "--limit is at least 1"),
        (("list", "--limit=x"), "--limit needs a number"),
        (("cancel", "x"), "--run needs a number"),
        (("prune",), "Missing a required argument: 'before'"),
        (("prune", "--before=yesterday"), "--before: «yesterday» is not a date"),
        (("prune", "--before=2025-01-01", "--keep=0"), "--keep is at least 1"),
    ],
)
def test_wrong_options_are_refused(arguments: tuple[str, ...], complaint: str) -> None:
    assert the_one_line(sync(NOWHERE, *arguments, run=run_piccolo), code=2).startswith(complaint)


async def test_what_is_to_come_is_not_pruned(url: str) -> None:
    line = the_one_line(sync(url, "prune", "--before=2999-01-01"), code=2)
    assert line.startswith("--before is a date in the past")


def test_without_a_database_it_says_so() -> None:
    for arguments in (("run", "quick"), ("list",), ("cancel", "1")):
        line = the_one_line(sync(NOWHERE, *arguments))
        assert line == "The database is unavailable: refused"


def test_a_module_that_cannot_be_imported_is_named() -> None:
    line = the_one_line(sync(NOWHERE, "run", "quick", sources="no.such"))
    assert line.startswith("SYNC_SOURCES: no.such cannot be imported (ModuleNotFoundError")
    line = the_one_line(sync(NOWHERE, "work", sources="tests.sync_history.conftest"))
    assert (
        line == "No source of SYNC_SOURCES runs by itself: none has every=, schedule= or retries="
    )


async def test_list_is_a_table_for_people_and_json_for_programs(url: str, db: Engine) -> None:
    for source in ("a", "b", "b"):
        await SyncRun(source=source, error_message="x\x1b[2J").save()
    lines = sync(url, "list").stdout.splitlines()
    assert [line.split("\t")[:3] for line in lines] == [
        ["id", "source", "status"],
        ["3", "b", "pending"],
        ["2", "b", "pending"],
        ["1", "a", "pending"],
    ]
    found = [
        json.loads(line)
        for line in sync(url, "list", "--json", "--limit=2").stdout.split("\n")[:-1]
    ]
    assert [run["id"] for run in found] == [3, 2]
    assert found[0]["error_message"] == "x\x1b[2J"
    assert len(sync(url, "list", "--source=a").stdout.splitlines()) == 2


async def test_cancel_ends_a_run_of_another_process(url: str, db: Engine) -> None:
    with start(url, "run", "slow") as process:
        run = await the_run("running")
        done = sync(url, "cancel", str(run.id))
        assert (done.returncode, done.stdout) == (0, f"run {run.id}: cancelled\n")
        assert process.wait(20) == 4
    run = await the_run("cancelled")
    assert (run.completed_at - run.cancel_requested_at).total_seconds() < 2
    line = the_one_line(sync(url, "cancel", str(run.id)))
    assert line == f"Run {run.id} is over: cancelled."
    assert the_one_line(sync(url, "cancel", "99999999999")) == "There is no such run."


@pytest.mark.parametrize(
    ("number", "code", "status"),
    [(signal.SIGINT, 130, "cancelled"), (signal.SIGTERM, 1, "failed")],
)
async def test_a_signal_ends_the_run(
    url: str, db: Engine, number: int, code: int, status: str
) -> None:
    with start(url, "run", "slow") as process:
        await the_run("running")
        process.send_signal(number)
        _, said = process.communicate(timeout=20)
        assert (process.returncode, b"Traceback" in said) == (code, False)
    assert (await the_run("cancelled", "failed")).status == status


async def test_work_runs_what_is_due_until_it_is_told_to_end(url: str, db: Engine) -> None:
    with start(url, "work") as process:
        run = await the_run("succeeded")
        process.terminate()
        _, said = process.communicate(timeout=20)
        assert (process.returncode, b"Traceback" in said) == (0, False), said.decode()
    assert (run.source, run.trigger_type) == ("ticking", "automatic")
    trail = await AuditLog.select().where(AuditLog.resource == "sync_history")
    assert {row["actor"] for row in trail} == {"sync:ticking"}


async def test_prune_keeps_the_last_ones_of_each_source(url: str, db: Engine) -> None:
    await db.fetch(
        "INSERT INTO sync_history (source, status, created_at)"
        " SELECT source, 'succeeded', timestamptz '2026-01-01' + day * interval '1 day'"
        " FROM generate_series(1, 10) day, unnest(ARRAY['a', 'b']) source"
    )
    await db.fetch(
        "INSERT INTO sync_history (source, status, created_at)"
        " VALUES ('c', 'running', '2026-01-01')"
    )
    options = ("prune", "--before=2026-01-09", "--keep=4")
    would = "would remove 12 runs before 2026-01-09 00:00 UTC; do it with --yes\n"
    assert sync(url, *options).stdout == would
    assert await SyncRun.count() == 21
    assert sync(url, *options, "--yes").stdout == "removed 12 runs\n"
    assert sync(url, *options, "--yes").stdout == "nothing to remove\n"
    left = await SyncRun.select(SyncRun.source).order_by(SyncRun.source).output(as_list=True)
    assert left == ["a"] * 4 + ["b"] * 4 + ["c"]
    [event] = await AuditLog.select().where(AuditLog.action == "sync_history.prune")
    assert json.loads(event["details"])["runs"] == 12


async def test_a_person_at_a_terminal_sees_progress(
    url: str, db: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SYNC_SOURCES", EXAMPLES)
    person = Terminal(url, "sync_history", "run", "slow")
    run = await the_run("running")
    while "/1000" not in person.output:
        assert person._read(), person.output
    sync(url, "cancel", str(run.id))
    assert person.leave() == 4
    assert "slow" in person.output
    assert f"run {run.id}: cancelled; " in person.output
    person.switch_off()
