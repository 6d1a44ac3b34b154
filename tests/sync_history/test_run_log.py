"""What a source logs is kept with its run: bounded, without secrets, and gone with it."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from audit.errors import DatabaseUnavailable
from audit.known_person import Known
from home.config.redaction import Redactor
from home.database.engine import Engine
from home.tables import User
from sync_history import prune, run_log, runner, runs
from sync_history.erasing import RunEraser
from sync_history.run_lease import RunLease
from sync_history.run_log import LONGEST_LINE, RunLog
from sync_history.sources import Function, Run
from sync_history.tables import SyncRun, SyncState
from tests.conftest import enter, run_groundwork
from tests.home.test_commands import the_one_line
from tests.sync_history.conftest import SERVICES, run_of, until

pytestmark = pytest.mark.any_version

Register = Callable[[Function], None]
LOG = logging.getLogger("crm")
TALKING = "tests.sync_history.talking"


@pytest.fixture(autouse=True)
def everything_is_logged() -> Iterator[None]:
    level = logging.getLogger().level
    logging.getLogger().setLevel(logging.INFO)
    yield
    logging.getLogger().setLevel(level)


async def lines_of(run: int) -> list[str]:
    return [line["text"] for line in await run_log.newer(SERVICES.db, run, 0, 10_000)]


async def test_what_a_source_logs_is_kept_with_its_run_and_nothing_else(
    registered: Register,
) -> None:
    async def crm(run: Run) -> None:
        LOG.info("page %d", 1)
        LOG.debug("too much")
        logging.getLogger("groundwork.sync").warning("ours")
        await asyncio.to_thread(LOG.warning, "from a thread")
        await asyncio.create_task(chatter("from a task"))

    async def erp(run: Run) -> None:
        LOG.error("of another run")
        await asyncio.sleep(0.2)

    async def chatter(text: str) -> None:
        LOG.info(text)

    registered(crm)
    registered(erp)
    LOG.info("of nobody")
    first, second = await asyncio.gather(run_of("crm"), run_of("erp"))
    assert await lines_of(first.id) == ["page 1", "from a thread", "from a task"]
    assert await lines_of(second.id) == ["of another run"]
    [line] = await run_log.newer(SERVICES.db, second.id, 0, 10)
    assert line["level"] == "ERROR"
    assert second.started_at <= line["at"] <= second.completed_at


async def test_lines_are_there_while_it_runs(registered: Register) -> None:
    async def crm(run: Run) -> None:
        LOG.info("it began")
        await asyncio.sleep(60)

    registered(crm)
    started = await runs.start(SERVICES.db, "crm")
    runner.launch(SERVICES, started)
    async with asyncio.timeout(20):
        while not await lines_of(started.id):
            await asyncio.sleep(0.05)
    await runs.cancel(SERVICES.db, started.id)
    await until(started.id, "cancelled")


async def test_it_is_bounded_and_what_is_left_out_is_counted_once(
    registered: Register, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def crm(run: Run) -> None:
        for number in range(1_500):
            LOG.info("%d %s", number, "x" * 10_000)

    end, ends = RunLease.end, list[None]()

    async def at_second(self: RunLease, *values: Any) -> None:
        ends.append(None)
        if len(ends) == 1:
            raise DatabaseUnavailable("refused")
        await end(self, *values)

    monkeypatch.setattr(RunLease, "end", at_second)
    registered(crm)
    lines = await lines_of((await run_of("crm")).id)
    assert len(lines) == 1_001
    assert {len(line) for line in lines[:-1]} == {LONGEST_LINE}
    assert lines[-1] == "and 500 more, which are not kept"


def record(text: object, *args: object, error: Exception | None = None) -> logging.LogRecord:
    info = error and (type(error), error, error.__traceback__)
    return logging.LogRecord("crm", logging.INFO, "", 1, text, args, info)  # type: ignore[arg-type]


def test_lines_hold_no_secrets_and_can_be_stored() -> None:
    log = RunLog(Redactor(["s3cret"]))
    try:
        raise ValueError("x" * 3_000 + " s3cret\0")
    except ValueError as error:
        log.add(record("at %s", "https://mel:pass@example.com/?key=s3cret\ud800", error=error))
    log.add(record("%d of %d", "one"))
    log.add(record({"event": "page_read", "path": "s3cret", "level": "info"}))
    first, second, third = log.waiting()
    assert first.text.startswith("at https://***@example.com/?key=***\ufffd")
    assert first.text.endswith("x ***\ufffd")
    assert len(first.text) <= LONGEST_LINE
    assert (second.text, third.text) == ("%d of %d", "page_read path=***")


async def test_a_write_that_fails_loses_nothing(
    db: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    id_ = await db.fetchval("INSERT INTO sync_history (source) VALUES ('crm') RETURNING id")
    log, lease = RunLog(Redactor([])), RunLease(db, id_)
    await lease.claim()
    log.add(record("one"))
    with monkeypatch.context() as patched:

        async def lost() -> None:
            raise DatabaseUnavailable("refused")

        patched.setattr(lease, "_connected", lost)
        with pytest.raises(DatabaseUnavailable):
            await lease.write_log(log)
    with monkeypatch.context() as patched:

        def not_heard(lines: object) -> None:
            raise DatabaseUnavailable("connection lost")

        patched.setattr(log, "forget", not_heard)
        with pytest.raises(DatabaseUnavailable):
            await lease.write_log(log)
    log.add(record("two"))
    await lease.write_log(log)
    await lease.write_log(log)
    assert await lines_of(id_) == ["one", "two"]
    await db.execute("UPDATE sync_history SET status = 'failed' WHERE id = $1", id_)
    log.add(record("from one that was taken for dead"))
    await lease.write_log(log)
    assert await lines_of(id_) == ["one", "two"]
    lease.close()


@pytest.fixture
async def talked(db: Engine) -> int:
    """A run with 1,200 lines."""
    run = SyncRun(source="crm", status="succeeded", created_at=datetime(2026, 1, 1, tzinfo=UTC))
    await run.save()
    await db.execute(
        "INSERT INTO sync_log_lines (run, level, text)"
        " SELECT $1, 'INFO', 'Mel <mel@example.com> is number ' || n"
        " FROM generate_series(1, 1200) n",
        run.id,
    )
    return run.id


async def test_the_page_shows_the_newest(
    client: httpx.AsyncClient, talked: int, administrator: User
) -> None:
    await enter(client, administrator.email)
    page = (await client.get(f"/sync/runs/{talked}")).text
    assert "1,000 lines before" in page
    assert "Mel &lt;mel@example.com&gt; is number 1200\n" in page
    assert page.count("is number") == 200


async def test_the_api_has_them_a_thousand_at_a_time(
    client: httpx.AsyncClient, talked: int, administrator: User, member: User
) -> None:
    path = f"/api/sync/runs/{talked}/log"
    await enter(client, member.email)
    assert (await client.get(path)).status_code == 403
    await client.post("/api/sign-out")
    await enter(client, administrator.email)
    first = (await client.get(path)).json()
    assert len(first["lines"]) == 1_000
    assert first["lines"][0]["text"].endswith("number 1")
    second = (await client.get(path, params={"after": first["next"]})).json()
    assert (len(second["lines"]), second["next"]) == (200, None)
    assert (await client.get("/api/sync/runs/999/log")).status_code == 404
    for wrong in ("x", "-1", "9" * 30):
        assert (await client.get(path, params={"after": wrong})).status_code == 400


async def test_they_go_with_the_run(db: Engine, talked: int) -> None:
    await SyncRun(source="crm", status="succeeded").save()
    assert await prune.prune(db, datetime.now(UTC), 1) == 1
    assert await lines_of(talked) == []


async def test_a_person_is_erased_from_lines_and_states(db: Engine, talked: int) -> None:
    await SyncState(source="crm", state={"after": "Mel@example.com", "page": 3}).save()
    known = Known(names={"mel@example.com"})
    await RunEraser().erase(db, 0, known, "person-1")
    lines = await lines_of(talked)
    assert {line.rpartition(" ")[0] for line in lines} == {"Mel <person-1> is number"}
    [state] = await SyncState.select().output(load_json=True)
    assert state["state"] == {"after": "person-1", "page": 3}


async def test_the_command_prints_them(url: str, db: Engine) -> None:
    done = run_groundwork(url, "sync_history", "run", "talking", SYNC_SOURCES=TALKING)
    assert done.returncode == 1, done.stderr
    [run] = await SyncRun.objects()
    done = run_groundwork(url, "sync_history", "log", str(run.id), "--json")
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["level"] for line in lines] == ["WARNING", "WARNING", "ERROR", "ERROR", "ERROR"]
    texts = [line["text"].splitlines()[0] for line in lines]
    assert texts == [
        "page 1 of crm\x1b[31m", "page_read page=2 path=/people", "from a thread",
        "page 3 is wrong", "page_wrong page=3",
    ]  # fmt: skip
    assert all(line["text"].endswith("ValueError: wrong page") for line in lines[-2:])
    done = run_groundwork(url, "sync_history", "log", str(run.id))
    assert "\tWARNING\tpage 1 of crm\\x1b[31m\n" in done.stdout
    line = the_one_line(run_groundwork(url, "sync_history", "log", "999"))
    assert line == "There is no such run"
