"""R14: signals under load, while packets are dropped, and before a database was ever there; with
sources that do not stop, and with the embedded database. Within ten seconds, and with success."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import httpx
import pytest

from home.database.engine import Engine
from home.tables import User
from sync_history.tables import SyncRun
from tests.conftest import ROOT, enter
from tests.faults.load import SLACK, under_load
from tests.live import Live, running
from tests.postgres import Server, free_port
from tests.proxy import proxied
from tests.test_building import copy_of_the_checkout

pytestmark = pytest.mark.direct

EXAMPLES = "tests.sync_history.misbehaving"
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
# SIGTERM stands for all of them, but for `make faults`.
ANY_SIGNAL = pytest.mark.parametrize(
    "number",
    [SIGNALS[0], *(pytest.param(other, marks=pytest.mark.long) for other in SIGNALS[1:])],
)


async def exit_of(live: Live, number: int = signal.SIGTERM) -> float:
    """Send a signal; returns how many seconds it took to exit: ten at most, on a quiet machine."""
    started = time.monotonic()
    async with asyncio.timeout(10 * SLACK):
        live.process.send_signal(number)
        while live.process.poll() is None:
            await asyncio.sleep(0.01)
    seconds = time.monotonic() - started
    output = live.end()
    assert live.process.returncode == 0, output
    assert "Traceback" not in output, output
    return seconds


@ANY_SIGNAL
@pytest.mark.parametrize("dropped", [False, True])
async def test_it_drains_and_exits(server: Server, dropped: bool, number: int) -> None:
    async with proxied(server.url()) as (proxy, through):
        with running(through) as live:
            async with under_load(live.address) as load:
                if dropped:
                    proxy.drop()
                    await asyncio.sleep(0.3)
                seconds = await exit_of(live, number)
            assert load.wrong == []
        proxy.heal()
        await asyncio.sleep(0.2)
    count = await load.count(server.url())
    print(f"R14 {'packets dropped' if dropped else 'under load'}: {seconds:.2f} s, {count}")
    assert (count.lost, count.duplicated) == (0, 0)


@ANY_SIGNAL
async def test_it_exits_while_it_waits_for_its_database(number: int) -> None:
    with running(f"postgresql://someone@127.0.0.1:{free_port()}/db") as live:
        await exit_of(live, number)


@pytest.mark.parametrize("number", SIGNALS)
async def test_it_exits_when_it_is_idle(number: int) -> None:
    with running(f"postgresql://someone@127.0.0.1:{free_port()}/db") as live:
        await exit_of(live, number)


async def test_nohup_keeps_it_alive(tmp_path: Path) -> None:
    url = f"postgresql://someone@127.0.0.1:{free_port()}/db"
    live = Live(url, ("nohup",))
    live.wait_until_it_serves()
    live.process.send_signal(signal.SIGHUP)
    await asyncio.sleep(0.5)
    assert live.get("/health/live").status_code == 200
    await exit_of(live)


SOURCES = [
    "deaf",
    *(pytest.param(name, marks=pytest.mark.long) for name in ("deaf-thread", "deadlocked")),
]


@ANY_SIGNAL
@pytest.mark.parametrize("source", SOURCES)
async def test_it_exits_while_a_source_does_not_stop(
    url: str, db: Engine, administrator: User, source: str, number: int
) -> None:
    with running(url, SYNC_SOURCES=EXAMPLES, SYNC_SCHEDULER="false") as live:
        async with httpx.AsyncClient(base_url=live.address) as ada:
            await enter(ada, administrator.email)
            assert (await ada.post(f"/api/sync/{source}")).status_code == 202
        await until_it_runs()
        await asyncio.sleep(1)
        seconds = await exit_of(live, number)
    print(f"R24 {source}, {signal.Signals(number).name}: {seconds:.2f} s")
    if source != "deadlocked":  # that one cannot even say so
        [run] = await SyncRun.objects()
        assert run.error_message.startswith("The application was stopped.")


async def until_it_runs() -> None:
    async with asyncio.timeout(20):
        while not await SyncRun.exists().where(SyncRun.status == "running"):
            await asyncio.sleep(0.05)


@pytest.mark.parametrize(
    ("arguments", "number", "code"),
    [
        (("run", "deaf"), signal.SIGINT, 130),
        (("run", "deaf"), signal.SIGTERM, 1),
        pytest.param(("run", "deaf"), signal.SIGHUP, 1, marks=pytest.mark.long),
        pytest.param(("run", "deaf-thread"), signal.SIGINT, 130, marks=pytest.mark.long),
        pytest.param(("run", "deaf-thread"), signal.SIGTERM, 1, marks=pytest.mark.long),
    ],
)
async def test_a_command_exits_while_its_source_does_not_stop(
    url: str, db: Engine, arguments: Sequence[str], number: int, code: int
) -> None:
    command = [str(Path(sys.executable).parent / "piccolo"), "sync_history", *arguments]
    env = {**os.environ, "DATABASE_URL": url, "SYNC_SOURCES": EXAMPLES}
    with subprocess.Popen(command, cwd=ROOT, env=env, stderr=subprocess.PIPE) as process:
        await until_it_runs()
        process.send_signal(number)
        _, said = await asyncio.to_thread(process.communicate, timeout=10)
    assert (process.returncode, b"Traceback" in said) == (code, False), said
    [run] = await SyncRun.objects()
    assert run.status == ("cancelled" if number == signal.SIGINT else "failed")


@pytest.mark.long
@pytest.mark.parametrize("number", SIGNALS)
async def test_it_exits_with_its_embedded_database(tmp_path: Path, number: int) -> None:
    copy_of_the_checkout(tmp_path)
    with running("", tmp_path) as live:
        async with asyncio.timeout(60):
            while live.get("/api/health").status_code != 200:
                await asyncio.sleep(0.2)
        await exit_of(live, number)
    assert not (tmp_path / ".data" / "postgres" / "postmaster.pid").exists()
