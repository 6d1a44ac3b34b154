"""What is written for people is true: settings, commands, links, containers."""

from __future__ import annotations

import re
import subprocess
from typing import Any

import pytest
import yaml
from dotenv import dotenv_values
from piccolo.apps.migrations.piccolo_app import APP_CONFIG as MIGRATIONS

import piccolo_conf
from home.other_names import SECRETS, TWINS
from home.settings import Settings, load_settings
from tests.conftest import ROOT

README = (ROOT / "README.md").read_text()
ENV_EXAMPLE = ROOT / ".env.example"
SETTINGS = {name.upper() for name in Settings.model_fields}
TARGET = re.compile(r"\]\(([^)\s]+)\)|<(?:img|a)\b[^>]*?\b(?:src|href)=\"([^\"]+)\"")
CODE = re.compile(r"^```.*?^```|`[^`\n]+`", re.DOTALL | re.MULTILINE)


LINKS = ["".join(groups) for groups in TARGET.findall(README)]


def snippets(pattern: str) -> list[str]:
    """What matches in the README's code, in blocks and in lines of text."""
    found = [match for code in CODE.findall(README) for match in re.findall(pattern, code)]
    return list(dict.fromkeys(found))


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
    for name in (*TWINS.values(), *(f"{secret}_file" for secret in SECRETS)):
        assert name.upper() in " ".join(comments)


@pytest.mark.parametrize("target", snippets(r"\bmake ([a-z][a-z-]*)"))
def test_make_knows_the_targets_of_the_readme(target: str) -> None:
    command = ["make", "--dry-run", "--always-make", target]
    assert subprocess.run(command, cwd=ROOT, capture_output=True, check=False).returncode == 0


@pytest.mark.parametrize("command", snippets(r"\bpiccolo ([a-z_]+ [a-z_]+)"))
def test_piccolo_knows_the_commands_of_the_readme(command: str) -> None:
    apps = [*piccolo_conf.APP_REGISTRY.app_configs.values(), MIGRATIONS]
    known = {
        f"{app.app_name} {command.command_name or command.callable.__name__}"
        for app in apps
        for command in app.get_commands()
    }
    assert command in known


@pytest.mark.parametrize(
    "name", snippets(r"\b((?:DB|DATABASE|POSTGRES|LISTEN|LOG|METRICS)_[A-Z_]+)")
)
def test_the_readme_names_only_settings_that_exist(name: str) -> None:
    twins = {twin.upper() for twin in TWINS.values()}
    assert name.removesuffix("_FILE") in SETTINGS | twins


@pytest.mark.parametrize("target", [link for link in LINKS if not re.match(r"[a-z]+:|#", link)])
def test_what_the_readme_links_to_is_there(target: str) -> None:
    assert (ROOT / target.partition("#")[0]).exists()


def test_the_readme_shows_something_of_each_kind() -> None:
    """Else the tests above would prove nothing."""
    assert "run" in snippets(r"\bmake ([a-z][a-z-]*)")
    assert "home migrate" in snippets(r"\bpiccolo ([a-z_]+ [a-z_]+)")
    assert ".env.example" in LINKS


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
    assert app["depends_on"][name] == {"condition": "service_healthy"}
    for same in ("POSTGRES_USER", "POSTGRES_DB", "POSTGRES_PASSWORD"):
        assert given[same] == db["environment"][same]
    assert given["POSTGRES_PASSWORD"].startswith("${POSTGRES_PASSWORD:?")  # no credential in code
