"""The code of the last release goes on beside this schema, until its processes are restarted.

Each statement that it sent is prepared anew: it has to mean the same. And what it knows nothing of
may not stand in the way of its rows. That it reads the values of this release is not shown.
"""

from __future__ import annotations

import gzip
import json

import asyncpg
import pytest

from home.database.schema import Catalog, read_catalog
from tests.conftest import Place, in_database, run_groundwork
from tests.home.database.test_releases import DUMPS
from tests.releases.recording import described

pytestmark = [pytest.mark.direct]
# The old code passes a constraint, unique index or trigger of ours that stands here, by its name.
HARMLESS = frozenset({"rules"})  # of sync_history: refuses nothing that it let through before


@pytest.fixture
async def migrated(empty_url: str, place: Place) -> tuple[asyncpg.Connection, Catalog, Catalog]:
    """A database of the last release, migrated, with the catalogs before and after."""
    name = empty_url.partition("?")[0].rpartition("/")[2]
    connection = await asyncpg.connect(in_database(place.direct, name))
    await connection.execute(gzip.decompress(DUMPS[-1].read_bytes()).decode())
    before = await read_catalog(connection, "public")
    done = run_groundwork(empty_url, "home", "migrate", "--check")
    assert done.returncode == 0, f"its processes would be blocked:\n{done.stdout}{done.stderr}"
    done = run_groundwork(empty_url, "home", "migrate")
    assert done.returncode == 0, done.stderr
    return connection, before, await read_catalog(connection, "public")


async def test_each_statement_of_the_last_release_means_the_same(
    migrated: tuple[asyncpg.Connection, Catalog, Catalog],
) -> None:
    path = DUMPS[-1].with_name(DUMPS[-1].name.replace(".sql.gz", ".statements.gz"))
    lines = gzip.decompress(path.read_bytes()).decode().splitlines()
    assert len(lines) > 100, "the recording is not whole"
    connection = migrated[0]
    await connection.execute("SET search_path = public")
    different = []
    for line in lines:
        expected = json.loads(line)
        try:
            found = await described(connection, expected["sql"])
        except asyncpg.PostgresError as error:
            found = {"error": str(error)}
        if found != expected:
            different.append((expected["sql"], found))
    await connection.close()
    assert different == []


async def test_nothing_stands_in_the_way_of_its_rows(
    migrated: tuple[asyncpg.Connection, Catalog, Catalog],
) -> None:
    connection, before, after = migrated
    await connection.close()
    assert in_the_way(before, after) == []


def in_the_way(before: Catalog, after: Catalog) -> list[str]:
    """Return what is new on old tables and could refuse what the old code writes."""
    tables = {table for kind, table, _ in before if kind == "table"}
    found = []
    for (kind, table, name), definition in after.items():
        if table not in tables or before.get((kind, table, name)) == definition or name in HARMLESS:
            continue
        needs_value = "NOT NULL" in definition and "DEFAULT" not in definition
        if (
            (kind == "column" and needs_value and "GENERATED" not in definition.upper())
            or kind in ("constraint", "trigger")
            or (kind == "index" and "UNIQUE" in definition)
        ):
            found.append(f"{kind} {table}.{name}: {definition}")
    return found


def test_what_would_stand_in_the_way_is_found() -> None:
    before: Catalog = {("table", "users", ""): "", ("column", "users", "id"): "integer NOT NULL"}
    new: Catalog = {
        ("column", "users", "shoe_size"): "integer NOT NULL",
        ("column", "users", "hat"): "integer NOT NULL DEFAULT 0",
        ("column", "users", "glove"): "integer",
        ("constraint", "users", "is_tall"): "CHECK (height > 180)",
        ("index", "users", "one_each"): "CREATE UNIQUE INDEX one_each ON users (shoe_size)",
        ("trigger", "users", "refuse"): "CREATE TRIGGER refuse",
        ("table", "shoes", ""): "",
        ("constraint", "shoes", "fits"): "CHECK (size > 0)",
    }
    names = [line.partition(":")[0] for line in in_the_way(before, before | new)]
    assert names == [
        "column users.shoe_size",
        "constraint users.is_tall",
        "index users.one_each",
        "trigger users.refuse",
    ]
