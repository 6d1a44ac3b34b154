"""What is written for people is true: settings, commands, links, containers."""

from __future__ import annotations

import re
import subprocess
from inspect import signature
from pathlib import Path
from typing import Any

import pytest
import yaml
from dotenv import dotenv_values
from piccolo.apps.app.piccolo_app import APP_CONFIG as APP
from piccolo.apps.migrations.piccolo_app import APP_CONFIG as MIGRATIONS

import piccolo_conf
from home.config.settings import load_settings
from home.config.sources import TWINS, secret_names
from tests import generated
from tests.conftest import ROOT

PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]
ENV_EXAMPLE = ROOT / ".env.example"
SETTINGS = {name.upper() for name in type(piccolo_conf.SETTINGS).model_fields}
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


@pytest.mark.parametrize("target", snippets(r"\bmake ([a-z][a-z-]*)"))
def test_make_knows_the_targets_of_the_readme(target: str) -> None:
    command = ["make", "--dry-run", "--always-make", target]
    assert subprocess.run(command, cwd=ROOT, capture_output=True, check=False).returncode == 0


# The commands of the example app are run by tests/test_building.py.
@pytest.mark.parametrize("line", snippets(r"\bpiccolo ((?!inventory )[a-z_]+ [a-z_]+[^\n`]*)"))
def test_piccolo_knows_the_commands_and_their_options(line: str) -> None:
    apps = [*piccolo_conf.APP_REGISTRY.app_configs.values(), MIGRATIONS, APP]
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


@pytest.mark.parametrize("path", generated.pages(), ids=lambda path: path.name)
def test_what_is_made_from_the_code_is_what_the_code_says(path: Path) -> None:
    made = generated.pages()[path]
    assert path.read_text(encoding="utf-8") == made, "run make docs"


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
