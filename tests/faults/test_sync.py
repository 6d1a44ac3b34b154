"""R7 for sync runs: a process dies, falls asleep or multiplies in mid-run; the history stays true.

Those with a SHORT lease wait seconds where the application waits a minute, see
tests/sync_history/worker.py.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import httpx
import pytest

from audit.tables import AuditLog
from home.database.engine import Engine
from home.tables import User
from sync_history.tables import SyncRun
from tests.conftest import ROOT, enter
from tests.live import running
from tests.sync_history.misbehaving import FAILURES

pytestmark = pytest.mark.any_version

EXAMPLES = "tests.sync_history.examples"
SHORT, REAL = 3, 45  # seconds of lease


@contextmanager
def process(url: str, lease: float, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """A worker or a run by hand; killed at the end, if it is still there."""
    command = [sys.executable, "-m", "tests.sync_history.worker", str(lease), *arguments]
    env = {**os.environ, "DATABASE_URL": url, "SYNC_SOURCES": EXAMPLES, "LOG_LEVEL": "info"}
    started = subprocess.Popen(
        command, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    try:
        yield started
    finally:
        started.kill()
        started.communicate()


async def the_run(
    source: str, status: str, within: float = 20, synced: int = 0, after: int = 0
) -> SyncRun:
    """The newest run of a source, once it is in this state; `after` another one, by its id."""
    query = SyncRun.objects().where(SyncRun.source == source, SyncRun.id > after)
    async with asyncio.timeout(within):
        while True:
            run = await query.order_by(SyncRun.id, ascending=False).first()
            if run is not None and run.status == status and run.items_synced >= synced:
                return run
            await asyncio.sleep(0.1)


@pytest.mark.parametrize("lease", [SHORT, pytest.param(REAL, marks=pytest.mark.long)])
async def test_kill_9_in_mid_run(url: str, db: Engine, lease: float) -> None:
    with process(url, lease, "work"), process(url, lease, "run", "slow") as victim:
        run = await the_run("slow", "running", synced=1)
        victim.kill()
        victim.wait()
        run = await the_run("slow", "failed", within=60)
        assert (run.completed_at - run.heartbeat_at).total_seconds() < min(60, 3 * lease + 10)
        assert run.items_synced > 0, "what it had counted by then is there"
        assert run.needs_attention
        with process(url, lease, "run", "quick") as again:
            assert again.wait(20) == 0
        with process(url, lease, "run", "slow"):
            await the_run("slow", "running", after=run.id)


@pytest.mark.long
@pytest.mark.parametrize("pooler", ["none", "transaction"])
async def test_without_a_scheduler_the_next_start_closes_it(
    url: str, db: Engine, pooler: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DB_POOLER", pooler)
    with process(url, SHORT, "run", "slow") as victim:
        dead = await the_run("slow", "running")
        assert dead.holds_lock == (pooler == "none")
        victim.kill()
        victim.wait()
        await asyncio.sleep(SHORT + 1)
        with process(url, SHORT, "run", "slow"):
            await the_run("slow", "running", after=dead.id)
    closed = await SyncRun.objects().get(SyncRun.id == dead.id)
    assert closed is not None
    assert closed.status == "failed"


@pytest.mark.long
@pytest.mark.parametrize(("lease", "asleep"), [(SHORT, 8), (REAL, 120)])
async def test_a_zombie_is_fenced(
    url: str, db: Engine, member: User, lease: float, asleep: float
) -> None:
    """SIGSTOP keeps its connections and its lock: only the silence tells."""
    with process(url, lease, "work"), process(url, lease, "run", "renaming") as zombie:
        await the_run("renaming", "running", synced=1)
        zombie.send_signal(signal.SIGSTOP)
        try:
            dead = await the_run("renaming", "failed", within=60)
            with process(url, lease, "run", "quick") as other:
                assert other.wait(20) == 0
            await asyncio.sleep(asleep - lease)
            woken = (await db.fetch("SELECT clock_timestamp() AS now"))[0]["now"]
        finally:
            zombie.send_signal(signal.SIGCONT)
        said, _ = zombie.communicate(timeout=20)
        assert zombie.returncode == 1
        assert b"failed; " in said
    after = await SyncRun.objects().get(SyncRun.id == dead.id)
    assert after is not None
    assert after.to_dict() == dead.to_dict(), "the zombie has written nothing"
    writes = AuditLog.count().where(AuditLog.action == "users.update", AuditLog.created_at > woken)
    # What was under way when it fell asleep may end; then it finds that it has no say any more.
    assert await writes <= 100


@pytest.mark.long
async def test_sigterm_ends_a_run_of_the_server_in_time(
    url: str, db: Engine, administrator: User
) -> None:
    with running(url, SYNC_SOURCES=EXAMPLES, SYNC_SCHEDULER="false") as live:
        async with httpx.AsyncClient(base_url=live.address) as ada:
            await enter(ada, administrator.email)
            answer = await ada.post("/api/sync/slow")
        assert answer.status_code == 202
        await the_run("slow", "running", synced=1)
        said = await asyncio.to_thread(live.end)
        assert live.process.returncode == 0, said
    run = await the_run("slow", "failed", within=1)
    assert run.error_message.startswith("The application was stopped.")
    assert "Traceback" not in said


@pytest.mark.parametrize(
    "seconds",
    [
        pytest.param(8, marks=pytest.mark.long),
        pytest.param(600, marks=pytest.mark.soak),
    ],
)
async def test_four_schedulers_run_each_due_time_once(url: str, db: Engine, seconds: int) -> None:
    with ExitStack() as stack:
        for _ in range(4):
            stack.enter_context(process(url, REAL, "work"))
        await the_run("ticking", "succeeded")
        await asyncio.sleep(seconds)
    runs = await SyncRun.objects().where(SyncRun.source == "ticking").order_by(SyncRun.id)
    times = [run.due_at for run in runs]
    assert len(set(times)) == len(times) >= seconds - 1
    steps = [(after - before).total_seconds() for before, after in itertools.pairwise(times)]
    assert set(steps) == {1.0}, "none was left out, and none came twice"
    assert {run.status for run in runs[:-1]} == {"succeeded"}
    begun = AuditLog.count().where(AuditLog.action == "sync_history.insert")
    assert await begun == len(runs)


async def test_a_source_of_the_server_can_only_fail_itself(
    url: str, db: Engine, administrator: User
) -> None:
    misbehaving = "tests.sync_history.misbehaving"
    with running(url, SYNC_SOURCES=misbehaving, SYNC_SCHEDULER="false") as live:
        async with httpx.AsyncClient(base_url=live.address, timeout=30) as ada:
            await enter(ada, administrator.email)
            for name, error in FAILURES.items():
                assert (await ada.post(f"/api/sync/{name}")).status_code == 202
                run = await the_run(name, "failed")
                assert run.error_message.startswith(error)
            assert (await ada.get("/api/health")).status_code == 200
        said = await asyncio.to_thread(live.end)
    assert live.process.returncode == 0, said
    assert len(said) < 1_000_000, "a text of 100 MB is in the log"
