"""What a source keeps from run to run is as true as the data it stands for."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest

from audit.tables import AuditLog
from home.database.engine import Engine
from home.tables import User
from sync_history import cursors, runner, runs
from sync_history.cursors import Cursor
from sync_history.errors import SyncFailed
from sync_history.sources import Function, Run, source
from sync_history.tables import SyncRun
from tests.conftest import ROOT, run_groundwork
from tests.home.test_commands import the_one_line
from tests.sync_history.conftest import SERVICES, run_of, until

pytestmark = pytest.mark.any_version

Register = Callable[[Function], None]
PAGED = "tests.sync_history.paged"


async def kept(name: str = "crm") -> Any:
    found = await cursors.find(SERVICES.db, name)
    return found and json.loads(found["state"])


async def test_a_run_goes_on_where_the_last_one_stopped(registered: Register) -> None:
    seen: list[Any] = []

    async def crm(run: Run) -> None:
        seen.append(run.state)
        run.state["after"] = "a copy"
        await run.save_state({"after": len(seen)})
        await run.save_state({"after": len(seen) * 10})

    registered(crm)
    assert (await run_of("crm")).status == "succeeded"
    assert (await run_of("crm")).status == "succeeded"
    assert seen == [{}, {"after": 10}]
    assert await kept() == {"after": 20}


async def test_it_is_undone_with_the_data(registered: Register, member: User) -> None:
    async def crm(run: Run) -> None:
        db = run.services.db
        await run.save_state({"page": 1})
        async with db.transaction():
            await User.update({User.organization: "page 2"}).where(User.id == member.id)
            await run.save_state({"page": 2})
            raise SyncFailed("Half of the page is missing.")

    registered(crm)
    assert (await run_of("crm")).status == "failed"
    assert await kept() == {"page": 1}
    assert await User.count().where(User.organization == "page 2") == 0


async def test_what_does_not_do_the_work_keeps_nothing(registered: Register) -> None:
    @source("crm", redoes_items=True)
    async def crm(run: Run) -> None:
        await run.save_state({"only": run.only is not None, "dry": run.dry_run})
        if run.only is None and not run.dry_run:
            run.failed("line 3", "is wrong")
        run.synced()

    await run_of("crm", dry_run=True)
    assert await kept() is None
    first = await run_of("crm")
    started = await runs.start(SERVICES.db, "crm", retry_of=first.id)
    await runner.launch(SERVICES, started).task
    assert (await until(started.id, "succeeded")).retry_of == first.id
    assert await kept() == {"only": False, "dry": False}


@pytest.mark.parametrize(
    ("state", "error"),
    [
        (["a"], TypeError),
        ({"a": object()}, TypeError),
        ({"a": float("nan")}, ValueError),
        ({"a": "\0"}, ValueError),
        ({"a\ud800": 1}, ValueError),
        ({"a": "x" * 64 * 1024}, ValueError),
    ],
)
@pytest.mark.parametrize("dry_run", [False, True])
async def test_what_is_no_state_is_refused(
    state: Any, error: type[Exception], dry_run: bool
) -> None:
    with pytest.raises(error, match=r"state|NaN|JSON|nan"):
        await Run(SERVICES, 1, "crm", dry_run=dry_run).save_state(state)


async def cursor_of(db: Engine, status: str = "running") -> Cursor:
    """What a run that has just been claimed goes on with."""
    claim = uuid4()
    id_ = await db.fetchval(
        "INSERT INTO sync_history (source, status, claim) VALUES ('crm', $1, $2) RETURNING id",
        status,
        claim,
    )
    found = await cursors.find(db, "crm")
    state, version = (found["state"], found["version"]) if found else (None, None)
    return Cursor(db, id_, claim, state, version)


async def close(db: Engine, cursor: Cursor) -> None:
    await db.execute("UPDATE sync_history SET status = 'failed' WHERE id = $1", cursor.run_id)


async def test_a_run_that_was_closed_keeps_nothing(registered: Register, db: Engine) -> None:
    async def crm(run: Run) -> None:
        await db.execute("UPDATE sync_history SET status = 'failed' WHERE id = $1", run.id)
        await run.save_state({"page": 1})

    registered(crm)
    await run_of("crm")
    assert await kept() is None


async def test_nor_does_one_that_another_process_has_claimed(db: Engine) -> None:
    cursor = await cursor_of(db)
    await Cursor(db, cursor.run_id, cursor.claim, None, None).save("{}")
    with pytest.raises(SyncFailed, match="meanwhile"):
        await Cursor(db, cursor.run_id, uuid4(), None, None).save('{"page": 1}')
    assert await kept() == {}


@pytest.mark.parametrize("is_first", [True, False])
async def test_who_commits_late_stops_the_successor_instead_of_doing_it_twice(
    db: Engine, is_first: bool
) -> None:
    if not is_first:
        earlier = await cursor_of(db)
        await earlier.save('{"page": 1}')
        await close(db, earlier)
    zombie = await cursor_of(db)
    saved, woken = asyncio.Event(), asyncio.Event()

    async def commits_late() -> None:
        async with db.transaction():
            await zombie.save('{"page": 2}')
            saved.set()
            await woken.wait()

    late = asyncio.create_task(commits_late())
    await saved.wait()
    await close(db, zombie)
    successor = await cursor_of(db)
    assert (successor.found is None) == is_first
    second = asyncio.create_task(successor.save('{"page": 2}'))
    await asyncio.sleep(0.2)
    woken.set()
    await late
    with pytest.raises(SyncFailed, match="meanwhile"):
        await second
    await close(db, successor)
    assert (await cursor_of(db)).found == '{"page": 2}'


async def test_a_late_one_is_undone_where_the_successor_was_first(db: Engine, member: User) -> None:
    zombie = await cursor_of(db)
    await zombie.save('{"page": 1}')
    await close(db, zombie)
    successor = await cursor_of(db)
    await successor.save('{"page": 2}')
    await db.execute("ALTER TABLE sync_history DISABLE TRIGGER rules")
    await close(db, successor)
    await db.execute("UPDATE sync_history SET status = 'running' WHERE id = $1", zombie.run_id)
    with pytest.raises(SyncFailed, match="meanwhile"):
        async with db.transaction():
            await User.update({User.organization: "twice"}).where(User.id == member.id)
            await zombie.save('{"page": 2, "late": true}')
    assert await User.count().where(User.organization == "twice") == 0
    assert await kept() == {"page": 2}


@pytest.mark.parametrize("has_kept", [True, False])
async def test_a_reset_ends_whoever_runs(db: Engine, has_kept: bool) -> None:
    cursor = await cursor_of(db)
    if has_kept:
        await cursor.save('{"page": 1}')
    await cursors.reset(db, "crm")
    with pytest.raises(SyncFailed, match="reset"):
        await cursor.save('{"page": 2}')
    assert await kept() == {}
    await close(db, cursor)
    await (await cursor_of(db)).save('{"page": 1}')
    assert await AuditLog.count().where(AuditLog.action == "sync_history.reset_state") == 1


async def test_the_command_shows_and_resets_it(url: str, db: Engine) -> None:
    def state(*arguments: str) -> str:
        done = run_groundwork(url, "sync_history", "state", *arguments, SYNC_SOURCES=PAGED)
        assert done.returncode == 0, done.stderr
        return done.stdout

    await (await cursor_of(db)).save('{"page": 1}')
    assert state("crm") == '{"page": 1}\n'
    found = json.loads(state("crm", "--reset", "--json"))
    assert (found["source"], found["state"], found["version"]) == ("crm", {}, 2)
    assert found["run_id"] is None
    done = run_groundwork(url, "sync_history", "state", "nothing", SYNC_SOURCES=PAGED)
    assert the_one_line(done, code=2).startswith("There is no source of this name")


@pytest.mark.long
async def test_ten_pages_killed_after_each_are_synced_once(url: str, db: Engine) -> None:
    """Each attempt goes on where the one before was killed, in a process of its own."""
    await db.execute("CREATE TABLE synced_pages (page integer, run integer)")
    command = [sys.executable, "-m", "tests.sync_history.worker", "1", "work"]
    started = await db.fetchval(
        "INSERT INTO sync_history (source, attempts, created_at)"
        " VALUES ('paged', 12, now() - interval '1 hour') RETURNING id"
    )
    killed = 0
    async with asyncio.timeout(120):
        while not await SyncRun.count().where(SyncRun.status == "succeeded"):
            worker = subprocess.Popen(
                command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                env={**os.environ, "DATABASE_URL": url, "SYNC_SOURCES": PAGED},
            )  # fmt: skip
            try:
                while worker.poll() is None:
                    if await SyncRun.count().where(SyncRun.status == "succeeded"):
                        break
                    await asyncio.sleep(0.1)
                killed += worker.poll() == -9
            finally:
                worker.kill()
                worker.wait()
    rows = await db.fetch("SELECT page, run FROM synced_pages ORDER BY page")
    assert [row["page"] for row in rows] == list(range(1, 11))
    assert len({row["run"] for row in rows}) == 10
    assert killed == 10
    last = await SyncRun.objects().where(SyncRun.status == "succeeded").first()
    assert last is not None
    assert (last.attempt, last.attempt_of) == (12, started)
