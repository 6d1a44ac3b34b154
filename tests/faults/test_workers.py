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
from tests.live import Live
from tests.postgres import Server, free_port
from tests.test_building import copy_of_the_checkout

pytestmark = pytest.mark.direct
NO_DATABASE = f"postgresql://someone@127.0.0.1:{free_port()}/db"


async def test_sighup_replaces_workers_without_a_request_that_fails(server: Server) -> None:
    async with serving(server.url()) as live:
        before, requests = live.pids(), Requests(live)
        async with requests.running(), under_load(live.address, 2) as load:
            live.process.send_signal(signal.SIGHUP)
            await live.until_said("worker_retired", 2)
            await load.until_acknowledged(10)
        assert requests.failed == []
        assert (load.unanswered, load.refused, load.wrong) == (0, [], [])
        assert len(live.pids()) == 2
        assert not set(before) & set(live.pids())
        output = await asyncio.to_thread(live.end)
    assert live.process.returncode == 0
    assert "Traceback" not in output
    print(output)
    print(f"R27 SIGHUP: {requests.answered + len(load.acknowledged)} requests, none failed")


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


async def figures(live: Live) -> dict[str, float]:
    answer = await asyncio.to_thread(live.get, "/metrics")
    return {
        sample.name + "".join(f"|{each}" for _, each in sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


async def worker_that_answers(client: httpx.AsyncClient) -> int:
    return int((await client.get("/api/health?details")).json()["worker"])


async def test_metrics_are_the_sum_and_outlive_a_worker(server: Server) -> None:
    async with serving(server.url()) as live:
        failed: dict[int, int] = {}
        async with asyncio.timeout(20):
            while set(failed) != {1, 2}:  # a new connection each, until both had some
                async with httpx.AsyncClient(base_url=live.address) as client:
                    worker = await worker_that_answers(client)
                    body = {"email": f"{len(failed)}@example.com", "password": "wrong"}
                    assert (await client.post("/api/sign-in", json=body)).status_code == 401
                    failed[worker] = failed.get(worker, 0) + 1
        events = "groundwork_events_total|sign_in.failed"
        found = await figures(live)
        assert found[events] == sum(failed.values())
        assert {f"groundwork_pool_max|{worker}" for worker in (1, 2)} <= found.keys()
        statements = found["groundwork_statement_seconds_count"]

        os.kill(live.pids()[0], signal.SIGKILL)
        await live.until_said("worker_died")
        left = await figures(live)
        assert "groundwork_pool_max|1" not in left  # a gauge of nobody
        assert left[events] == sum(failed.values())
        assert left["groundwork_statement_seconds_count"] >= statements
        await live.until_said("Application startup complete", 3)
        async with asyncio.timeout(10):
            while "groundwork_pool_max|1" not in (found := await figures(live)):
                await asyncio.sleep(0.1)
        assert found[events] == sum(failed.values())
        live.process.send_signal(signal.SIGHUP)
        await live.until_said("worker_retired", 2)
        assert (await figures(live))[events] == sum(failed.values())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_all_drain_and_exit(server: Server, number: int) -> None:
    async with serving(server.url()) as live:
        pids = live.pids()
        async with under_load(live.address) as load:
            live.process.send_signal(number)
            async with asyncio.timeout(40):
                while live.process.poll() is None:
                    await asyncio.sleep(0.01)
        output = live.end()
    assert (live.process.returncode, load.wrong) == (0, [])
    assert "Traceback" not in output
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
    count = await load.count(server.url())
    assert (count.lost, count.duplicated) == (0, 0)


async def test_workers_end_when_their_supervisor_is_killed() -> None:
    async with serving(NO_DATABASE) as live:
        pids = live.pids()
        live.kill()
        async with asyncio.timeout(40):
            while any(Path(f"/proc/{pid}").exists() for pid in pids):
                await asyncio.sleep(0.05)


async def test_only_requests_of_a_killed_worker_fail(server: Server) -> None:
    async with serving(server.url()) as live:
        await kill_workers(live, server, 3)


@pytest.mark.long
async def test_only_requests_of_killed_workers_fail_for_20_seconds(server: Server) -> None:
    async with serving(server.url()) as live:
        await kill_workers(live, server, 20)


async def kill_workers(live: Workers, server: Server, seconds: int) -> None:
    """kill -9 a worker each second, while there is load: four people, six that only ask."""
    requests, kills = Requests(live), 0
    async with requests.running(), under_load(live.address) as load:
        for _ in range(seconds):
            os.kill(live.pids()[0], signal.SIGKILL)
            kills += 1
            await asyncio.sleep(1)
            await live.until(lambda: len(live.pids()) == 2)
        await load.until_acknowledged(10)
    cut = [each for each in requests.failed if "Connect" not in each]
    assert len(cut) == len(requests.failed), requests.failed  # none was refused
    # A connection has one request in flight: ten at most are cut by each kill.
    assert len(cut) + load.unanswered <= 10 * kills
    assert requests.answered > 20 * seconds
    assert load.wrong == []
    count = await load.count(server.url())
    assert (count.lost, count.duplicated) == (0, 0)
    print(f"R27 kill -9: {kills} times, {requests.answered} answered, {len(cut)} cut, {count}")


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


def test_one_process_imports_nothing_of_workers() -> None:
    code = (
        "import sys, main, home.web.server as server\n"
        "server.serve_until_told = lambda *a: print([m for m in sys.modules"
        " if m.startswith(('multiprocessing', 'home.web.worker', 'home.database.capacity',"
        " 'uvicorn.supervisors', 'home.monitoring.gauges', 'prometheus_client'))])\n"
        "main.serve()"
    )
    env = {**os.environ, "DATABASE_URL": NO_DATABASE, "LOG_LEVEL": "error"}
    for name in ("WORKERS", "WEB_CONCURRENCY"):
        env.pop(name, None)
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=env, capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n", done.stderr


def test_one_process_has_no_other() -> None:
    live = Live(NO_DATABASE)
    live.wait_until_it_serves()
    pid = live.process.pid
    assert Path(f"/proc/{pid}/task/{pid}/children").read_text() == ""
    live.end()


@pytest.mark.long
async def test_workers_share_an_embedded_database(tmp_path: Path) -> None:
    copy_of_the_checkout(tmp_path)
    async with serving("", tmp_path) as live:
        async with asyncio.timeout(60):
            while live.get("/api/health").status_code != 200:
                await asyncio.sleep(0.2)
        postmaster = tmp_path / ".data" / "postgres" / "postmaster.pid"
        os.kill(live.pids()[0], signal.SIGKILL)
        live.process.send_signal(signal.SIGHUP)
        await live.until_said("worker_retired", 2)
        assert postmaster.exists()
        assert (await asyncio.to_thread(live.get, "/api/health")).json()["status"] == "ok"
        await asyncio.to_thread(live.end)
    assert live.process.returncode == 0
    assert not postmaster.exists()
