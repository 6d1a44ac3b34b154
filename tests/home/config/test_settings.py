"""What can be set, from where, and what is said when it is wrong."""

from __future__ import annotations

import re
import subprocess
import sys
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from audit.settings import AuditSettings
from home.config import types
from home.config.settings import ROOT, Settings, load_settings
from home.config.sources import SettingsError

CANARY = "canary-c4n4ry"
URL = f"postgresql://ada:{CANARY}@db.example.com/groundwork"


@pytest.fixture(autouse=True)
def nothing_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DATABASE_URL")


def database(settings: Settings) -> dict[str, Any]:
    assert settings.database is not None
    return settings.database.args


def everything_said(error: BaseException | None) -> str:
    """The error, and what it came from, as a careless handler might print them."""
    said = ""
    while error is not None:
        said += f"{error} {error!r}\n"
        error = error.__cause__ or error.__context__
    return said


def refusal() -> str:
    with pytest.raises(SettingsError) as caught:
        load_settings()
    assert CANARY not in everything_said(caught.value)
    return str(caught.value)


def test_without_any_setting_it_is_development_on_the_embedded_database() -> None:
    settings = load_settings()
    assert settings.environment == "development"
    assert settings.database is None
    assert (settings.listen_host, settings.listen_port) == ("127.0.0.1", 8000)
    assert (settings.db_pool_min, settings.db_pool_max) == (2, 20)
    assert settings.db_idle_timeout_ms == 30_000
    assert settings.db_connection_timeout_ms == 2_000
    assert settings.db_command_timeout_ms == 5_000
    assert settings.db_slow_query_ms == 1_000
    assert settings.metrics_networks == (ip_network("127.0.0.0/8"), ip_network("::1/128"))


def test_the_environment_wins_over_the_env_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    env_file = tmp_path / ".env"
    env_file.write_text('LISTEN_PORT=9001\nlog_level="debug"\nDB_HOST=from-file\n# NO=1\n')
    monkeypatch.setenv("LISTEN_PORT", "9002")
    settings = load_settings(_env_file=env_file)
    assert (settings.listen_port, settings.log_level) == (9002, "debug")
    assert database(settings)["host"] == "from-file"


def test_an_env_file_from_a_windows_editor_is_read_from_its_first_line(tmp_path: Path) -> None:
    env_file = tmp_path / ".env"
    env_file.write_bytes(b"\xef\xbb\xbfLISTEN_PORT=9001\r\nLOG_LEVEL=debug\r\n")
    settings = load_settings(_env_file=env_file)
    assert (settings.listen_port, settings.log_level) == (9001, "debug")


@pytest.mark.parametrize("name", ["DATABASE_URL", "POSTGRES_PASSWORD", "DB_PASSWORD"])
def test_a_secret_may_come_from_a_file_that_ends_in_a_newline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    secret = URL if name == "DATABASE_URL" else CANARY
    (tmp_path / "secret").write_text(secret + "\r\n")
    monkeypatch.setenv(f"{name}_FILE", str(tmp_path / "secret"))
    assert database(load_settings())["password"] == CANARY


def test_a_newline_after_a_secret_in_the_environment_is_no_part_of_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("POSTGRES_PASSWORD", f"{CANARY}\n")
    assert database(load_settings())["password"] == CANARY


def test_a_secret_and_its_file_may_agree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "secret").write_text(f"{CANARY}\r\n", encoding="utf-8-sig")  # by a Windows editor
    monkeypatch.setenv("POSTGRES_PASSWORD", f"{CANARY}\n")
    monkeypatch.setenv("POSTGRES_PASSWORD_FILE", str(tmp_path / "secret"))
    assert database(load_settings())["password"] == CANARY


@pytest.mark.parametrize("name", ["DATABASE_URL", "POSTGRES_PASSWORD", "DB_PASSWORD"])
def test_a_secret_and_its_file_that_differ_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    (tmp_path / "secret").write_text(f"{CANARY}-file")
    monkeypatch.setenv(name, CANARY)
    monkeypatch.setenv(f"{name}_FILE", str(tmp_path / "secret"))
    assert refusal() == f"{name} and {name}_FILE: both are set and they differ; keep one"


@pytest.mark.parametrize("content", [None, b"\xff\xfe" + CANARY.encode()])
def test_a_secret_file_that_cannot_be_read_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes | None
) -> None:
    if content:
        (tmp_path / CANARY).write_bytes(content)
    monkeypatch.setenv("DATABASE_URL_FILE", str(tmp_path / CANARY))
    message = "DATABASE_URL_FILE: names a file that cannot be read as text; check path and rights"
    assert refusal() == message


TWINS = [
    ("POSTGRES_HOST", "DB_HOST", "host", "db.example.com"),
    ("POSTGRES_PORT", "DB_PORT", "port", "6432"),
    ("POSTGRES_DB", "DB_NAME", "database", "tickets"),
    ("POSTGRES_USER", "DB_USER", "user", "ada"),
    ("POSTGRES_PASSWORD", "DB_PASSWORD", "password", CANARY),
]


@pytest.mark.parametrize(("name", "twin", "argument", "value"), TWINS)
def test_both_families_of_names_mean_the_same(
    monkeypatch: pytest.MonkeyPatch, name: str, twin: str, argument: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    assert str(database(load_settings())[argument]) == value
    monkeypatch.setenv(twin, value)
    assert str(database(load_settings())[argument]) == value
    monkeypatch.delenv(name)
    assert str(database(load_settings())[argument]) == value


@pytest.mark.parametrize(("name", "twin", "argument", "value"), TWINS)
def test_families_in_conflict_are_refused(
    monkeypatch: pytest.MonkeyPatch, name: str, twin: str, argument: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    monkeypatch.setenv(twin, "1234")
    first, second = sorted((name, twin))
    assert refusal() == f"{first} and {second}: both are set and they differ; keep one"


@pytest.mark.parametrize("name", ["WORKERS", "WEB_CONCURRENCY"])
@pytest.mark.parametrize(("text", "number"), [("3", 3), ("auto", 2), ("Auto", 2)])
def test_workers_are_a_number_or_as_many_as_cores(
    monkeypatch: pytest.MonkeyPatch, name: str, text: str, number: int
) -> None:
    assert load_settings().workers == 1
    monkeypatch.setattr(types, "usable_cores", lambda: 2)
    monkeypatch.setenv(name, text)
    assert load_settings().workers == number


@pytest.mark.parametrize("text", ["0", "-1", "129", "many"])
def test_workers_that_cannot_be_are_refused(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("WORKERS", text)
    assert refusal().startswith("WORKERS or WEB_CONCURRENCY: Input should be")


@pytest.mark.parametrize(
    ("quota", "cores"), [("max 100000", 8), ("150000 100000", 2), ("5000 100000", 1), ("", 8)]
)
def test_a_containers_quota_bounds_the_cores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quota: str, cores: int
) -> None:
    (tmp_path / "cpu.max").write_text(quota)
    monkeypatch.setattr(types, "CPU_QUOTA", tmp_path / "cpu.max")
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(8)))
    assert types.usable_cores() == cores


def test_a_url_wins_over_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POSTGRES_HOST", "elsewhere")
    monkeypatch.setenv("POSTGRES_PASSWORD", "another")
    monkeypatch.setenv("DATABASE_URL", URL)
    args = database(load_settings())
    assert (args["host"], args["password"]) == ("db.example.com", CANARY)


def test_what_a_pooler_refuses_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", f"{URL}?options=-c%20geqo%3Doff&application_name=tickets")
    monkeypatch.setenv("DB_POOLER", "transaction")
    found = load_settings().database
    assert found is not None
    assert found.args["server_settings"] == {"application_name": "tickets"}
    assert found.ignored == ("options",)


def test_an_empty_variable_counts_as_unset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [*Settings.model_fields, "db_host", "db_password", "database_url_file"]:
        monkeypatch.setenv(name.upper(), "")
    assert load_settings() == Settings.model_construct()
    (tmp_path / "empty").write_text("\n")
    monkeypatch.setenv("DATABASE_URL_FILE", str(tmp_path / "empty"))
    assert load_settings().database is None


@pytest.mark.parametrize(
    ("text", "effective"), [("0", 1), ("-1", 1), ("1000000000", 20), ("20", 20), ("7", 7)]
)
def test_the_pool_is_clamped(monkeypatch: pytest.MonkeyPatch, text: str, effective: int) -> None:
    monkeypatch.setenv("DB_POOL_MAX", text)
    settings = load_settings()
    assert settings.db_pool_max == effective
    assert settings.db_pool_min <= effective  # the default follows


@pytest.mark.parametrize("maximum", ["1", "0", "5"])
def test_a_minimum_above_the_maximum_is_refused(
    monkeypatch: pytest.MonkeyPatch, maximum: str
) -> None:
    monkeypatch.setenv("DB_POOL_MIN", "6")
    monkeypatch.setenv("DB_POOL_MAX", maximum)
    assert refusal() == "DB_POOL_MIN: must not be above DB_POOL_MAX (which is at most 20)"


NUMBER = "as an integer|valid integer|greater than or equal to|less than or equal to"
TIMEOUTS = ("IDLE_TIMEOUT", "CONNECTION_TIMEOUT", "COMMAND_TIMEOUT", "SLOW_QUERY")
DIGITS = "9" * 5_000
NONSENSE = [
    *[
        (name, port, NUMBER)
        for name in ("LISTEN_PORT", "POSTGRES_PORT", "DB_PORT")
        for port in ("5x", "0", "65536", "-1", "5432.5", "1e3", DIGITS, CANARY)
    ],
    *[
        (f"DB_{name}_MS", number, NUMBER)
        for name in TIMEOUTS
        for number in ("nan", "inf", "-1", "0", "2s", "False", DIGITS, CANARY)
    ],
    *[
        (name, number, NUMBER)
        for name in ("DB_POOL_MIN", "DB_POOL_MAX")
        for number in ("nan", "inf", "many", "2.5", "False", DIGITS, CANARY)
    ],
    ("DB_POOL_MIN", "-1", NUMBER),
    ("DB_POOL_MIN", "1000000000", "must not be above DB_POOL_MAX"),
    ("ENVIRONMENT", "Production", "'development' or 'production'"),
    ("LOG_LEVEL", CANARY, "'debug', 'info', 'warning' or 'error'"),
    ("DB_POOLER", "False", "'none' or 'transaction'"),
    ("METRICS_NETWORKS", f"10.0.0.0/8,{CANARY}", "use CIDR notation"),
    ("METRICS_NETWORKS", "10.0.0.1/8", "use CIDR notation"),
    ("DATABASE_URL", CANARY, "must begin with postgresql://"),
    ("DATABASE_URL", f"mysql://ada:{CANARY}@db/x", "must begin with postgresql://"),
    ("DATABASE_URL", f"postgresql://ada:{CANARY}@db:5x/x", "the port must be a number"),
    ("DATABASE_URL", f"postgresql://ada:#{CANARY}@db/x", "percent-encode special characters"),
    ("POSTGRES_PASSWORD", f"{CANARY}\udcff", "is not UTF-8 text"),
]


@pytest.mark.parametrize(
    ("name", "value", "mend"), NONSENSE, ids=lambda text: ascii(text[:30]).strip("'")
)
def test_nonsense_is_refused_by_name_with_the_mend_and_never_repeated(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, mend: str
) -> None:
    monkeypatch.setenv(name, value)
    message = refusal()
    assert name in message.partition(": ")[0]
    assert re.search(mend, message)
    assert len(value) < 5 or value not in message
    assert "\n" not in message


def test_each_wrong_variable_has_its_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LISTEN_PORT", "5x")
    monkeypatch.setenv("LOG_LEVEL", "loud")
    monkeypatch.setenv("DB_PORT", "65536")
    names = [line.partition(":")[0] for line in refusal().splitlines()]
    assert names == ["LISTEN_PORT", "LOG_LEVEL", "POSTGRES_PORT or DB_PORT"]


def test_an_env_file_that_is_not_utf_8_is_refused(tmp_path: Path) -> None:
    env_file = tmp_path / ".env"
    env_file.write_bytes(f"POSTGRES_PASSWORD={CANARY}ä".encode("latin-1"))
    with pytest.raises(SettingsError) as caught:
        load_settings(_env_file=env_file)
    assert str(caught.value) == ".env: is not UTF-8 text; save it as UTF-8"
    assert CANARY not in everything_said(caught.value)


def test_an_env_file_without_rights_is_refused(tmp_path: Path) -> None:
    env_file = tmp_path / ".env"
    env_file.touch(mode=0)
    code = """if True:
        import os, sys
        from home.config.settings import load_settings
        if os.geteuid() == 0:  # root reads every file
            os.setuid(65534)
        load_settings(_env_file=sys.argv[1])"""
    command = [sys.executable, "-c", code, str(env_file)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert "SettingsError: .env: cannot be read; check its rights" in done.stderr


@pytest.mark.parametrize("password", ["change-me", "Password", "postgres", "gr%6Fundwork"])
def test_production_refuses_a_placeholder_password(
    monkeypatch: pytest.MonkeyPatch, password: str
) -> None:
    monkeypatch.setenv("DATABASE_URL", f"postgresql://ada:{password}@db/groundwork")
    assert database(load_settings())["user"] == "ada"
    monkeypatch.setenv("ENVIRONMENT", "production")
    assert refusal().startswith("DATABASE_URL or POSTGRES_PASSWORD: holds a placeholder password")


def test_production_refuses_the_embedded_database(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENVIRONMENT", "production")
    assert "the embedded PostgreSQL is not for production" in refusal()
    monkeypatch.setenv("DATABASE_URL", URL)
    assert load_settings().environment == "production"


def test_settings_are_frozen() -> None:
    settings = load_settings()
    with pytest.raises(ValidationError, match="frozen"):
        settings.listen_port = 9000  # type: ignore[misc]
    assert settings.listen_port == 8000


def test_no_secret_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", URL)
    monkeypatch.setenv("POSTGRES_PASSWORD", f"{CANARY}-too")
    settings = load_settings()
    shown = f"{settings} {settings!r} {settings.database!r} {settings.model_dump()}"
    assert CANARY not in shown + settings.model_dump_json()
    assert set(settings.secrets) == {URL, CANARY, f"{CANARY}-too"}


def test_each_seal_key_is_long_and_a_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    new, old = "n" * 32, "o" * 32
    monkeypatch.setenv("AUDIT_SEAL_KEY", f"{new}, {old}")
    assert {new, old} <= set(load_settings([AuditSettings]).secrets)
    monkeypatch.setenv("AUDIT_SEAL_KEY", f"{new},{CANARY}")
    with pytest.raises(SettingsError, match="AUDIT_SEAL_KEY: each key needs 32 characters or more"):
        load_settings([AuditSettings])
