"""What looks like a mistake is said at the start, by name."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

import piccolo_conf
from audit.settings import AuditSettings
from home.config.checks import settings_warnings
from home.config.settings import load_settings
from tests.conftest import run_piccolo
from tests.live import running

CANARY = "canary-c4n4ry"


def said() -> list[tuple[str, dict[str, str | int]]]:
    return list(settings_warnings(load_settings([AuditSettings])))


@pytest.fixture(autouse=True)
def only_a_database(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://ada:right@db.example.com/groundwork")


def test_of_settings_as_they_are_meant_nothing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "DB_POOL_MAX": "20", "DB_HOST": "db.example.com", "POSTGRES_PASSWORD_FILE": "",
        "DB_PASSWORD_FILE": "", "AUDIT_SEAL_KEY_FILE": "", "listen_port": "8000",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    assert said() == []


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("DB_POOLMAX", "DB_POOL_MAX"),
        ("db_pool_maximum", "DB_POOL_MAX"),
        ("AUDIT_SEALKEY", "AUDIT_SEAL_KEY"),
        ("ALLOWED_HOST", "ALLOWED_HOSTS"),
        ("TRUSTED_PROXY", "TRUSTED_PROXIES"),
        ("MFA_KEYS", "MFA_KEY"),
        ("DATABASE_ULR", "DATABASE_URL"),
        ("POSTGRES_PASWORD", "POSTGRES_PASSWORD"),
        ("AUDIT_XYZ_BANANAS_ON_TOAST", None),
    ],
)
def test_an_unknown_name_is_said_with_the_nearest_one(
    monkeypatch: pytest.MonkeyPatch, name: str, near: str | None
) -> None:
    monkeypatch.setenv(name, CANARY)
    hint = {} if near is None else {"did_you_mean": near}
    assert said() == [("setting_unknown", {"name": name.upper(), **hint})]


@pytest.mark.parametrize(
    "name",
    ["HOME_KEY", "POSTGRES_INITDB_ARGS", "POSTGRES_HOST_AUTH_METHOD", "DATABASE_URL_UNPOOLED"],
)
def test_names_of_others_are_left_alone(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "1")
    assert said() == []


def test_the_env_file_is_looked_through(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".env").write_text("SYNC_SHEDULER=false\n")
    monkeypatch.setitem(type(piccolo_conf.SETTINGS).model_config, "env_file", tmp_path / ".env")
    warnings = list(settings_warnings(piccolo_conf.SETTINGS))
    assert warnings == [
        ("setting_unknown", {"name": "SYNC_SHEDULER", "did_you_mean": "SYNC_SCHEDULER"})
    ]


@pytest.mark.parametrize(("given", "used"), [("99", 20), ("0", 1)])
def test_a_pool_that_was_made_smaller_is_said(
    monkeypatch: pytest.MonkeyPatch, given: str, used: int
) -> None:
    monkeypatch.setenv("DB_POOL_MAX", given)
    fields = {"name": "DB_POOL_MAX", "given": int(given), "used": used}
    assert said() == [("setting_out_of_range", fields)]


def test_production_without_its_keys_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENVIRONMENT", "production")
    assert [fields["name"] for event, fields in said() if event == "setting_missing"] == [
        "ALLOWED_HOSTS", "MFA_KEY", "AUDIT_SEAL_KEY",
    ]  # fmt: skip
    monkeypatch.setenv("ALLOWED_HOSTS", "example.com")
    monkeypatch.setenv("MFA_KEY", "m" * 32)
    monkeypatch.setenv("AUDIT_SEAL_KEY", "a" * 32)
    assert said() == []


@pytest.mark.any_version
async def test_the_server_logs_it_and_commands_are_quiet(url: str) -> None:
    with running(url, DB_POOLMAX=CANARY) as live:
        output = await asyncio.to_thread(live.end)
    assert "setting_unknown" in output
    assert "DB_POOLMAX" in output
    assert CANARY not in output
    done = await asyncio.to_thread(run_piccolo, url, "home", "migrate", DB_POOLMAX=CANARY)
    assert (done.returncode, done.stderr) == (0, "")
