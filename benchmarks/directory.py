"""People by the source `directory` and by one INSERT: one line of JSON, in seconds."""

from __future__ import annotations

import asyncio
import csv
import json
import time
from pathlib import Path

from audit.context import Actor, acting_as
from benchmarks.p9 import PEOPLE
from piccolo_conf import DB, SETTINGS
from sync_history.directory.source import directory

ROUNDS = 3
INSERT = """
    INSERT INTO users (email, password_hash, display_name, organization, clerk_id,
                       is_approved, approved_at)
    SELECT email, '', display_name, organization, clerk_id, true, now()
    FROM unnest($1::text[], $2::text[], $3::text[], $4::text[])
         AS people (email, display_name, organization, clerk_id)
    ON CONFLICT (email) DO UPDATE
    SET display_name = excluded.display_name, organization = excluded.organization,
        clerk_id = excluded.clerk_id
"""


class Recorder:
    """Counts; the runner's own writes are not what is measured."""

    id, source, dry_run, force, cancelled = 1, "directory", False, False, False
    done = 0

    def total(self, n: int) -> None: ...
    def synced(self, n: int = 1) -> None:
        self.done += n

    def failed(self, item: str, error: object) -> None:
        raise AssertionError(f"{item}: {error}")

    def note(self, text: str) -> None: ...


async def measure() -> dict[str, list[float]]:
    with Path(SETTINGS.directory_url).open(encoding="utf-8") as file:
        columns = [list(column) for column in zip(*list(csv.reader(file))[1:], strict=True)]
    seconds: dict[str, list[float]] = {"ours": [], "again": [], "insert": []}
    for _ in range(ROUNDS + 1):  # the first, unmeasured, makes the files
        await _empty()
        seconds["ours"].append(await _sync())
        seconds["again"].append(await _sync())
        await _empty()
        connection = await DB.get_new_connection()
        began = time.perf_counter()
        async with connection.transaction():
            await connection.execute(INSERT, *columns)
        seconds["insert"].append(time.perf_counter() - began)
        await connection.close()
    return {name: times[1:] for name, times in seconds.items()}


async def _sync() -> float:
    recorder = Recorder()
    began = time.perf_counter()
    await directory(recorder)
    took = time.perf_counter() - began
    assert recorder.done == PEOPLE
    return took


async def _empty() -> None:
    connection = await DB.get_new_connection()
    await connection.execute("SET session_replication_role = replica")  # no triggers
    for table in ("directory_people", "users", "audit_logs"):
        await connection.execute(f"DELETE FROM {table}")
        await connection.execute(f"VACUUM {table}")
    await connection.close()


if __name__ == "__main__":
    with acting_as(Actor("sync:directory")):
        print(json.dumps(asyncio.run(measure())))
