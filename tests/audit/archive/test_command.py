"""`piccolo audit archive`, and the commands that read what it moved."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from audit.settings import AuditSettings
from home.database.engine import Engine
from tests.audit.trails import KEY, seal_three_times
from tests.conftest import ROOT, run_groundwork

pytestmark = pytest.mark.any_version


async def test_it_says_what_it_would_do_and_does_it(db: Engine, url: str, tmp_path: Path) -> None:
    await seal_three_times(db)
    env = {"AUDIT_SEAL_KEY": KEY, "AUDIT_ARCHIVE": str(tmp_path), "AUDIT_KEEP": "13 months"}
    done = run_groundwork(url, "audit", "archive", **env)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("would move 28 rows (up to id 30), all before ")
    assert list(tmp_path.iterdir()) == []
    done = run_groundwork(url, "audit", "archive", "--yes", **env)
    assert done.stdout == f"moved 28 rows to {tmp_path}, in 1 file\n"
    done = run_groundwork(url, "audit", "archive", **env)
    assert done.stdout.startswith("nothing to archive")
    done = run_groundwork(url, "audit", "verify", "--json", **env)
    assert json.loads(done.stdout)["archived"] == 28
    done = run_groundwork(url, "audit", "history", "users", "3", **env)
    assert "person3@example.com" in done.stdout
    done = run_groundwork(url, "audit", "export", "--resource-id=3", "--resource=users", **env)
    assert json.loads(done.stdout)["actor"] == "person3@example.com"
    del env["AUDIT_ARCHIVE"]
    done = run_groundwork(url, "audit", "verify", **env)
    assert (done.returncode, done.stderr.count("set AUDIT_ARCHIVE")) == (1, 1)


async def test_a_part_of_the_trail_is_verified(db: Engine, url: str) -> None:
    await seal_three_times(db)
    env = {"AUDIT_SEAL_KEY": KEY}
    at = [
        row["at"] for row in await db.fetch("SELECT created_at AS at FROM audit_seals ORDER BY id")
    ]
    second = [f"--since={at[1].isoformat()}", f"--until={at[2].isoformat()}"]
    done = run_groundwork(url, "audit", "verify", *second, **env)
    assert done.stdout.startswith("verified 9 rows under 1 seal ")
    done = run_groundwork(url, "audit", "verify", second[0], **env)
    assert done.stdout.startswith("verified 18 rows under 2 seals ")
    done = run_groundwork(url, "audit", "verify", "--since=2100-01-01", **env)
    assert (done.returncode, done.stderr) == (1, "No seal was made in this time\n")


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"audit_keep": "0 days"}, "such as 13 months"),
        ({"audit_keep": "5 hours"}, "such as 13 months"),
        ({"audit_keep": "13"}, "such as 13 months"),
        ({"audit_archive": "gs://bucket"}, "s3://bucket/prefix"),
        ({"audit_archive": "s3://x?y"}, "s3://bucket/prefix"),
        ({"audit_archive": "/folder", "audit_archive_lock": "1 year"}, "needs an AUDIT_ARCHIVE"),
    ],
)
def test_wrong_settings_are_refused(settings: dict[str, str], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        AuditSettings.model_validate(settings)


@pytest.mark.parametrize(
    ("text", "interval"),
    [("13 months", "13 months"), ("1 Day", "1 days"), ("", None), (None, None)],
)
def test_spans(text: str | None, interval: str | None) -> None:
    assert AuditSettings(audit_keep=text).audit_keep == interval


def test_without_an_archive_nothing_of_it_is_imported() -> None:
    code = (
        "import sys, audit.commands, audit.keeping, audit.verifying, audit.export, audit.reading;"
        "print([m for m in ('duckdb', 'obstore', 'audit.archive') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == "[]\n"


def test_a_missing_package_is_named_with_the_command(url: str, tmp_path: Path) -> None:
    (tmp_path / "duckdb.py").write_text("raise ModuleNotFoundError('x', name='duckdb')")
    env = {"AUDIT_ARCHIVE": str(tmp_path), "AUDIT_KEEP": "1 day", "PYTHONPATH": str(tmp_path)}
    done = run_groundwork(url, "audit", "archive", **env)
    assert done.returncode == 1
    assert done.stderr == (
        "AUDIT_ARCHIVE needs duckdb, which is not installed: pip install duckdb obstore fsspec\n"
    )
