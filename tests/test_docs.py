"""What is written for people is true: settings, commands, links, containers."""

from __future__ import annotations

import re
import subprocess
import sys
from inspect import signature
from pathlib import Path
from typing import Any

import pytest
import yaml
from dotenv import dotenv_values

import piccolo_conf
from audit import forms, paging
from audit.typed_command import configs_of_piccolo
from home.accounts import passwords, preferences
from home.accounts.sign_on import remote
from home.backoffice import csv_export, lists, query_check
from home.config import redaction
from home.config.providers import Provider
from home.config.settings import load_settings
from home.config.sources import TWINS, secret_names
from home.database import probe
from home.web import connections, http_protocol, request_filter, server
from home.web.http_protocol import BoundedProtocol, Owes
from sync_history import cursors, reporting, run_log
from sync_history.directory import download, json_stream, parser
from tests.conftest import ROOT

PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]
ENV_EXAMPLE = ROOT / ".env.example"
DEFAULTS = type(piccolo_conf.SETTINGS).model_fields
# Those of identity providers hold a name that nobody knows before.
SETTINGS = {name.upper() for name in type(piccolo_conf.SETTINGS).model_fields} - {
    "IDENTITY_PROVIDERS"
}
TARGET = re.compile(r"\]\(([^)\s]+)\)|<(?:img|a)\b[^>]*?\b(?:src|href)=\"([^\"]+)\"")
CODE = re.compile(r"^```.*?^```|`[^`\n]+`", re.DOTALL | re.MULTILINE)


LINKS = [
    (page.parent, "".join(groups)) for page in PAGES for groups in TARGET.findall(page.read_text())
]


def snippets(pattern: str) -> list[str]:
    """What matches in the pages' code, in blocks and in lines of text."""
    code = [each for page in PAGES for each in CODE.findall(page.read_text())]
    found = [match for each in code for match in re.findall(pattern, each)]
    return list(dict.fromkeys(found))


# What the table of bounds says, as the code has it.
KIB, MIB = 1024, 1024**2
BOUNDS = {
    "request line": (f"URL of {http_protocol.MAX_URL_BYTES // KIB} KiB",),
    "head": (
        f"{http_protocol.MAX_HEAD_BYTES // KIB} KiB, {http_protocol.MAX_HEADERS} headers",
        f"{BoundedProtocol.patience[Owes.HEAD]:g} s",
    ),
    "trailers": (f"{http_protocol.MAX_HEAD_BYTES // KIB} KiB",),
    "body": (
        f"{request_filter.MAX_BODY_BYTES // MIB} MiB",
        f"up to {http_protocol.MAX_BODY_BYTES // MIB} MiB",
        f"{BoundedProtocol.patience[Owes.BODY]:g} s",
    ),
    "requests sent ahead": (f"| {http_protocol.MAX_PIPELINED} |",),
    "connections": (
        f"{server.MAX_CONNECTIONS:,}, or",
        f"less {server.OTHER_DESCRIPTORS + connections.RESERVE} for",
        f"there are {connections.RESERVE} more",
    ),
    "connection without a request": (
        f"{BoundedProtocol.patience[Owes.FIRST_REQUEST]:g} s for the first, "
        f"{BoundedProtocol.patience[Owes.REQUEST]:g} s",
    ),
    "answer |": (
        f"{connections.MAX_BUFFERED_BYTES // MIB} MiB",
        f"{BoundedProtocol.patience[Owes.READING]:g} s",
    ),
    "list of the back office": (
        f"{lists.MAX_ROWS} rows; a query of {query_check.LONGEST // KIB} KiB",
        f"{lists.LISTS_AT_ONCE} at once, others wait up to {lists.WAIT_SECONDS:g} s",
    ),
    "CSV of such a list": (f"{csv_export.MOST_ROWS:,} rows",),
    "CSV of the trail": (f"{forms.MOST_ROWS:,} rows, {forms.MOST_BYTES // MIB} MiB",),
    "row of the trail": (f"{paging.PAGE} in a page", f"{paging.INLINE_BYTES // KIB} KiB"),
    "preferences": (f"{preferences.MAX_BYTES // KIB} KiB",),
    "password": (
        f"{passwords.MAX_LENGTH} characters",
        f"{passwords.WAITING_AT_MOST} sign-ins",
        f"{passwords.WAIT_SECONDS} s",
    ),
    "wait for a connection": (f"{DEFAULTS['db_connection_timeout_ms'].default / 1000:g} s",),
    "answer of the database": (
        f"{DEFAULTS['db_command_timeout_ms'].default / 1000:g} s; {probe.DEADLINE_SECONDS} s",
    ),
    "text that is logged": (
        f"{redaction.MAX_CHARACTERS:,} characters, {redaction.MAX_TRACEBACK_CHARACTERS:,} of",
        f"{redaction.MAX_ITEMS} items",
    ),
    "text of a sync source": (
        f"{reporting.LONGEST_TEXT} characters",
        f"{reporting.KEPT['failures']} failures and {reporting.KEPT['notes']:,} notes",
    ),
    "log of a sync source": (
        f"{run_log.LONGEST_LINE:,} characters a line, {run_log.MOST_LINES:,} lines",
    ),
    "state of a sync source": (f"{cursors.LARGEST_STATE // KIB} KiB",),
    "identity provider": (
        f"{remote.MOST_BYTES // 1024} KiB",
        f"{remote.SECONDS:g} s",
    ),
    "directory": (
        f"{download.BIGGEST // MIB} MiB, line or value of {parser.LONGEST:,} characters, "
        f"{download.REDIRECTS} redirects",
        f"{download.SECONDS:g} s, {download.SILENCE_SECONDS:g} s without",
    ),
}


@pytest.mark.parametrize("what", BOUNDS)
def test_the_table_of_bounds_says_what_holds(what: str) -> None:
    page = (ROOT / "docs" / "security.md").read_text()
    table = page.partition("## What comes from outside")[2].partition("\n## ")[0]
    [row] = [line for line in table.splitlines() if line.startswith(f"| {what}")][:1]
    for words in BOUNDS[what]:
        assert words in row
    assert parser.LONGEST == json_stream.LONGEST


def test_the_example_names_exactly_the_settings() -> None:
    assert set(dotenv_values(ENV_EXAMPLE)) == SETTINGS


def test_the_example_loads_and_shows_the_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DATABASE_URL")
    shown = load_settings(_env_file=ENV_EXAMPLE)
    assert shown.db_pool_max == 10
    assert shown.model_copy(update={"db_pool_max": 20}) == load_settings()


def test_the_example_explains_each_setting_and_its_other_names() -> None:
    paragraphs = ENV_EXAMPLE.read_text().split("\n\n")
    for name in SETTINGS:
        [paragraph] = [text for text in paragraphs if re.search(f"^{name}=", text, re.MULTILINE)]
        assert re.match(r"# \w", paragraph), name
    comments = re.findall("^#.*", ENV_EXAMPLE.read_text(), re.MULTILINE)
    for name in (
        *TWINS.values(),
        *(f"{secret}_file" for secret in secret_names(type(piccolo_conf.SETTINGS))),
    ):
        assert name.upper() in " ".join(comments)


def test_each_setting_of_an_identity_provider_is_explained() -> None:
    page = (ROOT / "docs" / "single-sign-on.md").read_text(encoding="utf-8")
    named = {name.lower() for name in re.findall(r"\bOIDC_ACME_([A-Z_]+)=", page)}
    assert named == {*Provider.model_fields} - {"name"}
    assert "OIDC_ACME_CLIENT_SECRET_FILE" in page


@pytest.mark.parametrize("target", snippets(r"\bmake ([a-z][a-z-]*)"))
def test_make_knows_the_targets_of_the_readme(target: str) -> None:
    command = ["make", "--dry-run", "--always-make", target]
    assert subprocess.run(command, cwd=ROOT, capture_output=True, check=False).returncode == 0


# The commands of the example app are run by tests/test_building.py.
@pytest.mark.parametrize("line", snippets(r"\bpiccolo ((?!inventory )[a-z_]+ [a-z_]+[^\n`]*)"))
def test_piccolo_knows_the_commands_and_their_options(line: str) -> None:
    apps = [*piccolo_conf.APP_REGISTRY.app_configs.values(), *configs_of_piccolo()]
    known = {
        f"{app.app_name} {command.command_name or command.callable.__name__}": signature(
            command.callable
        ).parameters
        for app in apps
        for command in app.get_commands()
    }
    command = " ".join(line.split()[:2])
    assert command in known
    options = re.findall(r"--([a-z][\w-]*)", line.partition("#")[0])
    assert {option.replace("-", "_") for option in options} <= set(known[command])


@pytest.mark.parametrize(
    "name", snippets(r"\b((?:DB|DATABASE|POSTGRES|LISTEN|LOG|METRICS|MFA|AUDIT|SYNC)_[A-Z_]+)")
)
def test_pages_name_only_settings_that_exist(name: str) -> None:
    twins = {twin.upper() for twin in TWINS.values()}
    assert name.removesuffix("_FILE") in SETTINGS | twins


@pytest.mark.parametrize(
    ("folder", "target"), [link for link in LINKS if not re.match(r"[a-z]+:|#", link[1])]
)
def test_what_is_linked_to_is_there(folder: Path, target: str) -> None:
    assert (folder / target.partition("#")[0]).exists()


def test_what_is_made_from_the_code_is_what_the_code_says() -> None:
    # In a process of its own: ast forgets how deep it was after the tests of too deep input.
    command = [sys.executable, "-m", "tests.generated", "--check"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"run make docs\n{done.stdout}{done.stderr}"


def test_the_index_leads_to_every_page() -> None:
    index = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    names = {page.name for page in (ROOT / "docs").glob("*.md")} - {"index.md"}
    assert {name for name in names if f"({name})" not in index} == set()


def test_the_readme_shows_something_of_each_kind() -> None:
    """Else the tests above would prove nothing."""
    commands = snippets(r"\bpiccolo ([a-z_]+ [a-z_]+[^\n`]*)")
    assert "run" in snippets(r"\bmake ([a-z][a-z-]*)")
    assert "home migrate" in commands
    assert any("--everybody" in command for command in commands)
    assert (ROOT / "docs", "../.env.example") in LINKS


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    compose = yaml.safe_load((ROOT / "compose.yaml").read_text())
    named = set(compose["volumes"])
    used = {v.partition(":")[0] for s in compose["services"].values() for v in s.get("volumes", ())}
    assert used == named
    return dict(compose["services"])


def test_compose_has_a_postgresql_15_whose_data_and_health_are_kept(
    services: dict[str, Any],
) -> None:
    [db] = [service for service in services.values() if "image" in service]
    assert db["image"] == "postgres:15-alpine"
    assert db["volumes"][0].endswith(":/var/lib/postgresql/data")
    assert "pg_isready" in " ".join(db["healthcheck"]["test"])


def test_compose_gives_the_application_only_settings_and_the_right_database(
    services: dict[str, Any],
) -> None:
    [app] = [service for service in services.values() if "build" in service]
    [(name, db)] = [item for item in services.items() if "image" in item[1]]
    given = app["environment"]
    assert set(given) <= SETTINGS
    assert given["POSTGRES_HOST"] == name
    assert int(given["WORKERS"]) == 2
    assert all(port.startswith("127.0.0.1:") for each in (app, db) for port in each["ports"])
    assert app["depends_on"][name] == {"condition": "service_healthy"}
    for same in ("POSTGRES_USER", "POSTGRES_DB", "POSTGRES_PASSWORD"):
        assert given[same] == db["environment"][same]
    assert given["POSTGRES_PASSWORD"].startswith("${POSTGRES_PASSWORD:?")  # no credential in code


def test_the_proofs_of_the_security_page_exist() -> None:
    page = (ROOT / "docs" / "security.md").read_text()
    tests = "\n".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    for name in re.findall(r"`(test_\w+)`", page):
        assert f"def {name}(" in tests, name
    for path in re.findall(r"`(tests/[\w/.]+)`", page):
        assert (ROOT / path).exists(), path
