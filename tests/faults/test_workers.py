"""R27: several workers on one socket: killed, replaced under load, told to end, unable to start."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import asyncpg
import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.conftest import ROOT
from tests.faults.conftest import in_maintenance
from tests.faults.load import under_load
from tests.faults.workers import Requests, Workers, serving
from tests.postgres import Server, free_port
from tests.test_building import copy_of_the_checkout

pytestmark = pytest.mark.direct
NO_DATABASE = f"postgresql://someone@127.0.0.1:{free_port()}/db"


async def test_sighup_replaces_workers_without_a_request_that_fails(server: Server) -> None:
    """And SIGTERM, then, lets all of them finish what they are at."""
    async with serving(server.url()) as live:
        before, requests = live.pids(), Requests(live)
        async with under_load(live.address, 1) as load:
            async with requests.running():
                live.process.send_signal(signal.SIGHUP)
                await live.until_said("worker_retired", 2)
                await load.until_acknowledged(10)
            assert requests.failed == []
            assert (load.unanswered, load.refused, load.wrong) == (0, [], [])
            assert len(live.pids()) == 2
            assert not set(before) & set(live.pids())
            await ends(live, signal.SIGTERM)
    count = await load.count(server.url())
    assert (count.lost, count.duplicated, load.wrong) == (0, 0, [])
    print(f"R27 SIGHUP: {requests.answered} requests, {count}: none failed")


async def ends(live: Workers, number: int) -> None:
    """Send a signal: all processes end, with success."""
    pids = live.pids()
    live.process.send_signal(number)
    async with asyncio.timeout(40):
        while live.process.poll() is None:
            await asyncio.sleep(0.01)
    output = live.end()
    assert live.process.returncode == 0, output
    assert "Traceback" not in output, output
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)


@pytest.mark.long
async def test_who_is_idle_at_a_worker_that_retires_gets_one_more_answer(server: Server) -> None:
    async with serving(server.url()) as live:
        clients = [httpx.AsyncClient(base_url=live.address) for _ in range(8)]
        for client in clients:
            assert (await client.get("/health/live")).status_code == 200
        live.process.send_signal(signal.SIGHUP)
        await live.until_said("Application startup complete", 3)
        await asyncio.sleep(0.5)
        answers = [await client.get("/health/live") for client in clients]
        assert {answer.status_code for answer in answers} == {200}
        assert "close" in {answer.headers.get("connection") for answer in answers}
        for client in clients:
            await client.aclose()


async def figures(live: Workers) -> dict[str, float]:
    answer = await asyncio.to_thread(live.get, "/metrics")
    return {
        sample.name + "".join(f"|{each}" for _, each in sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


async def fail_to_sign_in(live: Workers, stopped: int) -> int:
    """At the other worker than the one that is stopped meanwhile; returns its number."""
    os.kill(live.pids()[stopped], signal.SIGSTOP)
    try:
        async with httpx.AsyncClient(base_url=live.address, timeout=30) as client:
            body = {"email": f"{stopped}@example.com", "password": "wrong"}
            assert (await client.post("/api/sign-in", json=body)).status_code == 401
            return int((await client.get("/api/health?details")).json()["worker"])
    finally:
        os.kill(live.pids()[stopped], signal.SIGCONT)


async def test_metrics_are_the_sum_and_outlive_a_worker(server: Server) -> None:
    async with serving(server.url()) as live:
        assert [await fail_to_sign_in(live, stopped) for stopped in (0, 1)] == [2, 1]
        events = "groundwork_events_total|sign_in.failed"
        found = await figures(live)
        assert found[events] == 2
        assert {f"groundwork_pool_max|{worker}" for worker in (1, 2)} <= found.keys()
        statements = found["groundwork_statement_seconds_count"]

        os.kill(live.pids()[0], signal.SIGKILL)
        await live.until_said("worker_died")
        left = await figures(live)
        assert "groundwork_pool_max|1" not in left  # a gauge of nobody
        assert left[events] == 2
        assert left["groundwork_statement_seconds_count"] >= statements
        await live.until_said("Application startup complete", 3)
        async with asyncio.timeout(10):
            while "groundwork_pool_max|1" not in (found := await figures(live)):
                await asyncio.sleep(0.1)
        assert found[events] == 2
        live.process.send_signal(signal.SIGHUP)
        await live.until_said("worker_retired", 2)
        assert (await figures(live))[events] == 2


@pytest.mark.long
async def test_all_end_with_ctrl_c(server: Server) -> None:
    async with serving(server.url()) as live, under_load(live.address) as load:
        for pid in live.pids():
            os.kill(pid, signal.SIGINT)  # as a terminal does
        await ends(live, signal.SIGINT)
    count = await load.count(server.url())
    assert (count.lost, count.duplicated, load.wrong) == (0, 0, [])


async def test_workers_end_when_their_manager_is_killed() -> None:
    async with serving(NO_DATABASE) as live:
        pids = live.pids()
        live.kill()
        async with asyncio.timeout(40):
            while any(Path(f"/proc/{pid}").exists() for pid in pids):
                await asyncio.sleep(0.05)


@pytest.mark.long
async def test_only_requests_of_killed_workers_fail(server: Server) -> None:
    """kill -9 of a worker each second, while there is load: four people, six that only ask."""
    async with serving(server.url()) as live:
        requests, kills = Requests(live), 20
        async with requests.running(), under_load(live.address) as load:
            for _ in range(kills):
                os.kill(live.pids()[0], signal.SIGKILL)
                await asyncio.sleep(1)
                await live.until(lambda: len(live.pids()) == 2)
            await load.until_acknowledged(10)
    assert not [each for each in requests.failed if "Connect" in each]  # none was refused
    cut = len(requests.failed) + load.unanswered
    # A connection has one request in flight: ten at most are cut by each kill.
    assert cut <= 10 * kills
    assert load.wrong == []
    count = await load.count(server.url())
    assert (count.lost, count.duplicated) == (0, 0)
    print(f"R27 kill -9: {kills} times, {requests.answered} answered, {cut} cut, {count}")


@pytest.mark.long
async def test_jobs_run_once_and_another_worker_takes_over(server: Server) -> None:
    settings = {"SYNC_SOURCES": "tests.sync_history.examples", "AUDIT_SEAL_INTERVAL": "1"}
    connection = await asyncpg.connect(server.url())

    async def until_rows(table: str, more: int) -> None:
        number = f"SELECT count(*) FROM {table}"
        goal = await connection.fetchval(number) + more
        async with asyncio.timeout(30):
            while await connection.fetchval(number) < goal:
                await asyncio.sleep(0.1)

    async with serving(server.url(), **settings) as live:
        await until_rows("sync_history", 3)
        os.kill(live.pids()[0], signal.SIGKILL)
        await until_rows("sync_history", 2)
        await until_rows("audit_seals", 1)
    due = await connection.fetchval(
        "SELECT max(n) FROM (SELECT count(*) AS n FROM sync_history WHERE source = 'ticking'"
        " GROUP BY date_trunc('second', started_at)) AS each"
    )
    assert due == 1
    covered = "SELECT first_id, last_id FROM audit_seals ORDER BY id"
    seals = [tuple(row) for row in await connection.fetch(covered)]
    assert all(before[1] < after[0] for before, after in pairwise(seals))
    await connection.close()


def run_main(folder: Path = ROOT, **env: str) -> subprocess.CompletedProcess[str]:
    """Run `python main.py` to its end."""
    return subprocess.run(
        [sys.executable, "main.py"],
        cwd=folder,
        env={**os.environ, "LISTEN_PORT": str(free_port()), "WORKERS": "2", **env},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_wrong_settings_are_said_once() -> None:
    done = run_main(DATABASE_URL=NO_DATABASE, LOG_LEVEL="loud")
    assert done.returncode == 1
    assert done.stderr.count("LOG_LEVEL") == 1


def test_workers_that_cannot_start_say_so_once(tmp_path: Path) -> None:
    copy_of_the_checkout(tmp_path)
    with (tmp_path / "main.py").open("a") as file:
        file.write("\nif __name__ == '__mp_main__':\n    sys.exit('No worker can start here.')\n")
    done = run_main(tmp_path, DATABASE_URL=NO_DATABASE)
    assert done.returncode == 3, done.stderr
    assert done.stderr.count("No worker can start here.") == 1
    assert done.stderr.count("workers_cannot_start") == 1


@pytest.mark.long
async def test_a_restart_with_code_that_does_not_start_leaves_the_old_workers(
    tmp_path: Path,
) -> None:
    copy_of_the_checkout(tmp_path)
    async with serving(NO_DATABASE, tmp_path) as live:
        before = live.pids()
        code = (tmp_path / "main.py").read_text()
        (tmp_path / "main.py").write_text("raise SystemExit('A mistake.')\n" + code)
        live.process.send_signal(signal.SIGHUP)
        await live.until_said("restart_given_up")
        assert live.pids() == before
        assert (await asyncio.to_thread(live.get, "/health/live")).status_code == 200
        (tmp_path / "main.py").write_text(code)
        live.process.send_signal(signal.SIGHUP)
        await live.until_said("worker_retired", 2)


async def test_more_connections_than_the_server_has_are_refused_by_name(server: Server) -> None:
    done = await asyncio.to_thread(run_main, DATABASE_URL=server.url(), WORKERS="5")
    assert done.returncode == 1
    assert "WORKERS: 5 workers with up to 21 connections each make 105" in done.stderr
    assert "max_connections 100, 3 of them reserved" in done.stderr
    assert done.stderr.count("set WORKERS to at most 4") == 1
    await in_maintenance(server, f"ALTER DATABASE {server.database} CONNECTION LIMIT 30")
    done = await asyncio.to_thread(run_main, DATABASE_URL=server.url())
    assert "has 30 (CONNECTION LIMIT of the database)" in done.stderr


def test_one_process_imports_nothing_of_workers_and_starts_no_other() -> None:
    code = (
        "import os, sys, main, home.web.server as server\n"
        "def look(*_):\n"
        "    of = ('home.web.worker', 'home.database.capacity', 'home.monitoring.gauges',"
        " 'prometheus_client', 'multiprocessing.spawn', 'multiprocessing.heap')\n"
        "    print([each for each in sys.modules if each.startswith(of)])\n"
        "    print(open(f'/proc/self/task/{os.getpid()}/children').read())\n"
        "server.serve_until_told = look\n"
        "main.serve()"
    )
    env = {**os.environ, "DATABASE_URL": NO_DATABASE, "LOG_LEVEL": "error"}
    for name in ("WORKERS", "WEB_CONCURRENCY"):
        env.pop(name, None)
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=env, capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n\n", done.stderr


@pytest.mark.long
async def test_uvicorns_own_workers_serve_too(server: Server) -> None:
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", "main:app", "--workers", "2", "--port", str(port)]
    env = {**os.environ, "DATABASE_URL": server.url()}
    with subprocess.Popen(command, cwd=ROOT, env=env, stderr=subprocess.PIPE) as process:
        async with (
            asyncio.timeout(40),
            httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as on,
        ):
            while True:
                try:
                    if (await on.get("/health")).status_code == 200:
                        break
                except httpx.TransportError:
                    await asyncio.sleep(0.1)
        process.terminate()
        _, said = await asyncio.to_thread(process.communicate, timeout=30)
    assert process.returncode == 0, said


@pytest.mark.long
async def test_workers_share_an_embedded_database(tmp_path: Path) -> None:
    copy_of_the_checkout(tmp_path)
    async with serving("", tmp_path) as live:
        async with asyncio.timeout(60):
            while live.get("/api/health").status_code != 200:
                await asyncio.sleep(0.2)
        postmaster = tmp_path / ".data" / "postgres" / "postmaster.pid"
        os.kill(live.pids()[0], signal.SIGKILL)
        await live.until_said("Application startup complete", 3)
        live.process.send_signal(signal.SIGHUP)
        await live.until_said("worker_retired", 2)
        assert postmaster.exists()
        assert (await asyncio.to_thread(live.get, "/api/health")).json()["status"] == "ok"
        await asyncio.to_thread(live.end)
    assert live.process.returncode == 0
    assert not postmaster.exists()
