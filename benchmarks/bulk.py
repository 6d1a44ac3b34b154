"""Many events by `record_many` and by COPY, as a program: one line of JSON, in seconds."""

from __future__ import annotations

import asyncio
import json
import time

from audit.context import Actor, acting_as
from audit.record import COLUMNS, Event, record_many
from benchmarks.p8 import EVENTS
from piccolo_conf import DB

ROUNDS = 5


async def measure() -> dict[str, list[float]]:
    events = [
        Event("people.exported", "users", number, {"fields": ["email"], "rows": number})
        for number in range(EVENTS)
    ]
    rows = [event.row() for event in events]
    seconds: dict[str, list[float]] = {"ours": [], "copy": []}
    for _ in range(ROUNDS + 1):  # the first, unmeasured, makes the files
        await _empty()
        began = time.perf_counter()
        await record_many(DB, events)
        seconds["ours"].append(time.perf_counter() - began)
        await _empty()
        began = time.perf_counter()
        async with DB.connection() as connection:
            await connection.copy_records_to_table("audit_logs", records=rows, columns=COLUMNS)
        seconds["copy"].append(time.perf_counter() - began)
    return {name: times[1:] for name, times in seconds.items()}


async def _empty() -> None:
    async with DB.connection() as connection:
        await connection.execute("SET groundwork.audit_removal = 'on'; DELETE FROM audit_logs")
        await connection.execute("VACUUM audit_logs")


if __name__ == "__main__":
    with acting_as(Actor("system:benchmark")):
        print(json.dumps(asyncio.run(measure())))
