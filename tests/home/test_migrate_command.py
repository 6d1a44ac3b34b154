"""`piccolo home migrate` as an administrator runs it: with --check, in production, with --force."""

from __future__ import annotations

import json
from pathlib import Path

import asyncpg
import pytest

from tests.conftest import run_groundwork
from tests.home.database.moving import Moving
from tests.home.database.pending import READINGS

pytestmark = [pytest.mark.direct, pytest.mark.any_version]
ROWS = "SELECT count(*) FROM readings"


async def test_what_would_block_is_shown_refused_and_forced(url: str, tmp_path: Path) -> None:
    connection = await asyncpg.connect(url)
    await connection.execute(READINGS)
    moving = Moving(tmp_path)
    harmless = moving.add("harmless", "ALTER TABLE readings ADD extra integer")
    rewrite = moving.add("rewrite", "ALTER TABLE readings ALTER value TYPE bigint")
    env = {**moving.env, "ENVIRONMENT": "production"}

    done = run_groundwork(url, "home", "migrate", "--check", **env)
    assert done.returncode == 3, done.stderr
    assert f"{harmless}\n  ALTER TABLE readings ADD extra integer  " in done.stdout
    assert "    AccessExclusiveLock on readings for " in done.stdout
    assert "ms: blocks readers and writers\n" in done.stdout
    assert f"refused: {rewrite}: rewrites readings, which is not small\n" in done.stdout

    done = run_groundwork(url, "home", "migrate", "--check", "--json", **env)
    found = json.loads(done.stdout)
    assert (done.returncode, found["pending"]) == (3, [harmless, rewrite])
    assert [step["rewrites"] for step in found["steps"]] == [[], ["readings"]]
    assert found["steps"][0]["locks"][0]["mode"] == "AccessExclusiveLock"
    assert f"{rewrite}: rewrites readings, which is not small" in found["refusals"]

    done = run_groundwork(url, "home", "migrate", **env)
    assert done.returncode == 1
    assert "rewrites readings" in done.stderr
    assert "--force does it all the same" in done.stderr
    applied = "SELECT array_agg(name::text) FROM migration WHERE app_name = 'moving'"
    assert await connection.fetchval(applied) == [harmless], "the first one was not to be refused"

    done = run_groundwork(url, "home", "migrate", "--force", **env)
    assert (done.stdout, done.returncode) == (f"applied {rewrite}\n", 0), done.stderr
    done = run_groundwork(url, "home", "migrate", "--check", **env)
    assert (done.stdout, done.returncode) == ("nothing to apply\n", 0)
    await connection.close()


def test_json_without_check_is_refused(url: str) -> None:
    done = run_groundwork(url, "home", "migrate", "--json")
    assert (done.returncode, done.stderr) == (2, "--json goes with --check; see --help\n")
