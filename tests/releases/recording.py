"""What the code of a release says to the database, kept as a list of statements.

    pytest -p tests.releases.recording -n 4 -k "not installed" tests
    python -m tests.releases.recording 0.2.0

The first notes each statement that the application sends while the tests run; the second keeps,
with the types of parameters and columns, those that PostgreSQL understands in the schema of now.
Make it together with the release's database: once released it is never made again.
"""

from __future__ import annotations

import asyncio
import gzip
import inspect
import json
import os
import re
import sys
from pathlib import Path
from typing import Any

import asyncpg

from home.database.connection import ObservedConnection
from tests.conftest import run_piccolo
from tests.postgres import Server, find_binaries

FOLDER = Path(__file__).parent
PACKAGES = ("audit", "home", "sync_history")
# What requests, jobs and commands send, as against migrations.
KEPT = re.compile(r"[\s(]*(SELECT|INSERT|UPDATE|DELETE|WITH|VALUES)\b", re.IGNORECASE)
NOTES = FOLDER / f"noted.{os.getpid()}"
_seen: set[str] = set()
_observe = ObservedConnection._observe


async def _noted(self: ObservedConnection, run: Any, sql: str, *args: Any, **options: Any) -> Any:
    if sql not in _seen and KEPT.match(sql) and _is_of_the_application():
        _seen.add(sql)
        with NOTES.open("a") as file:
            file.write(json.dumps(sql) + "\n")
    return await _observe(self, run, sql, *args, **options)


def _is_of_the_application() -> bool:
    """Return whether the nearest code that asks is an app's, and not a test's."""
    frame = inspect.currentframe()
    while frame is not None:
        path = Path(frame.f_code.co_filename)
        if "tests" in path.parts:
            if path != Path(__file__):
                return False
        elif any(each in path.parts for each in PACKAGES) and path.parts[-2] != "database":
            return True
        frame = frame.f_back
    return True  # a job: a task of its own


async def described(connection: asyncpg.Connection, sql: str) -> dict[str, Any]:
    """Return a statement with the types of its parameters, and with its columns."""
    prepared = await connection.prepare(sql)
    return {
        "sql": sql,
        "parameters": [each.name for each in prepared.get_parameters()],
        "columns": [[each.name, each.type.name] for each in prepared.get_attributes()],
    }


async def describe(url: str, statements: set[str]) -> list[dict[str, Any]]:
    """Return those that PostgreSQL understands: others are of tables that a test made."""
    connection = await asyncpg.connect(url)
    found = []
    for sql in sorted(statements):
        try:
            found.append(await described(connection, sql))
        except asyncpg.PostgresError as error:
            print(f"left out: {' '.join(sql.split())[:90]}: {error}")
    await connection.close()
    return found


def main(version: str) -> None:
    noted = sorted(FOLDER.glob("noted.*"))
    binaries = find_binaries()
    if binaries is None or not noted:
        sys.exit("needs an installed PostgreSQL, and pytest -p tests.releases.recording before")
    statements = {json.loads(line) for path in noted for line in path.read_text().splitlines()}
    server = Server(binaries)
    server.start()
    try:
        done = run_piccolo(server.url(), "home", "migrate")
        assert done.returncode == 0, done.stderr
        found = asyncio.run(describe(server.url(), statements))
    finally:
        server.remove()
    text = "".join(json.dumps(each) + "\n" for each in found)
    path = FOLDER / f"{version}.statements.gz"
    path.write_bytes(gzip.compress(text.encode(), mtime=0))
    for each in noted:
        each.unlink()
    print(f"{path.name}: {len(found)} statements, {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main(*sys.argv[1:])
else:
    ObservedConnection._observe = _noted  # type: ignore[method-assign]
