"""`groundwork ...` and mistyped `piccolo ...`, run as a person would run them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import piccolo_conf
from home.command_line.catalogue import commands_of, groups
from tests.conftest import ROOT, missing, run_piccolo

pytestmark = pytest.mark.any_version

NOWHERE = "postgresql://ada:canary-c4n4ry@127.0.0.1:1/nothing"
Done = subprocess.CompletedProcess[str]


def groundwork(*words: str, url: str = NOWHERE, **env: str) -> Done:
    return subprocess.run(
        [sys.executable, "-m", "home", *words],
        cwd=ROOT,
        env={**os.environ, "DATABASE_URL": url, **env},
        capture_output=True,
        text=True,
        check=False,
    )


def test_what_is_listed_is_what_the_apps_have() -> None:
    for name, config in piccolo_conf.APP_REGISTRY.app_configs.items():
        listed = {each.name: each for each in commands_of(name)}
        assert list(listed) == [each.callable.__name__ for each in config.get_commands()]
        for command in config.get_commands():
            assert listed[command.callable.__name__].load() is command.callable


def test_every_command_can_be_imported_and_has_a_sentence() -> None:
    assert {"audit", "home", "sync_history", "migrations", "shell", "tester"} <= set(groups())
    for group in groups():
        for command in commands_of(group):
            assert callable(command.load()), command
            assert command.summary.endswith((".", "?")), command


def test_the_page_of_commands_has_them_all() -> None:
    page = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
    for group in piccolo_conf.APP_REGISTRY.app_configs:
        for command in commands_of(group):
            assert re.search(rf"`piccolo {group} {command.name}[` ]", page)
    for group, name in re.findall(r"groundwork ([a-z_]+) ([a-z_]+)", page):
        assert name in [each.name for each in commands_of(group)] or group == "completion"


def test_help_names_all_and_imports_nothing() -> None:
    done = groundwork("--help")
    assert done.returncode == 0
    assert re.search(r"^  verify +Compare the live schema", done.stdout, re.MULTILINE)
    assert re.search(r"^migrations \(of Piccolo\)\n  new ", done.stdout, re.MULTILINE)
    assert max(map(len, done.stdout.splitlines())) <= 100
    code = "import sys; from home.command_line.program import overview; overview();"
    code += "print(*sorted({'piccolo', 'asyncpg', 'pydantic', 'starlette'} & set(sys.modules)))"
    seen = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    # Naming a module of Piccolo imports its package, which is empty.
    assert seen.stdout.strip() in ("", "piccolo")


@pytest.mark.parametrize(
    "start", ["import main", "import home.tables; from audit.cli import *; piccolo_conf()"]
)
def test_neither_server_nor_command_loads_a_code_formatter(start: str) -> None:
    code = f"{start}; import sys; from home.tables import User; User._meta.db; "
    code += "print({'black', 'piccolo_admin', 'IPython'} & set(sys.modules))"
    seen = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**os.environ, "DATABASE_URL": NOWHERE},
        capture_output=True,
        text=True,
        check=True,
    )
    assert seen.stdout.strip() == "set()"


def test_each_level_has_a_help() -> None:
    group = groundwork("audit", "--help")
    assert (group.returncode, group.stderr) == (0, "")
    assert "verify" in group.stdout
    assert "migrate" not in group.stdout
    command = groundwork("audit", "export", "--help")
    assert (command.returncode, command.stderr) == (0, "")
    assert "--resource-id TEXT" in command.stdout
    assert "(default: ndjson)" in command.stdout


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ("audit verfy", "There is no command 'verfy' in audit. Did you mean verify?"),
        ("adit verify", "There is no group of commands 'adit'. Did you mean audit?"),
        ("audit verify --jsn", "Unrecognized arguments: --jsn. Did you mean --json?"),
        ("audit seal 1 y", "Unrecognized arguments: y."),
        ("audit history", "--resource is missing."),
        ("audit seal --patience=long", "Argument --patience: needs a number, not 'long'."),
        ("audit seal long", "--patience: needs a number, not 'long'."),
        ("audit history a 1 --resource=b", "--resource is given twice: 'a'."),
        ("completion fish", "Name the shell: completion bash, or completion zsh."),
    ],
)
def test_what_is_mistyped_exits_2_and_is_named(words: str, line: str) -> None:
    done = groundwork(*words.split())
    assert (done.returncode, done.stdout) == (2, "")
    [said] = done.stderr.splitlines()
    assert re.fullmatch(re.escape(line) + r" See groundwork.* --help\.", said)


@pytest.mark.parametrize("words", ["", "audit"])
def test_no_command_exits_2_and_shows_what_there_is(words: str) -> None:
    done = groundwork(*words.split())
    assert (done.returncode, done.stdout) == (2, "")
    assert "verify" in done.stderr


def test_the_version_is_that_of_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert groundwork("--version").stdout == f"groundwork {project['version']}\n"


@pytest.mark.parametrize("words", ["--version", "--help", "audit --help", "audit export --help"])
def test_who_stops_reading_sees_no_traceback(words: str) -> None:
    reader, writer = os.pipe()
    os.close(reader)  # as `| head` does, but certainly
    done = subprocess.run(
        [sys.executable, "-m", "home", *words.split()],
        cwd=ROOT,
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, "")


def test_commands_do_what_they_do_under_piccolo(url: str) -> None:
    for words in (["audit", "verify"], ["home", "verify"], ["audit", "history", "users", "7"]):
        ours, piccolos = groundwork(*words, url=url), run_piccolo(url, *words)
        assert (ours.returncode, ours.stderr) == (piccolos.returncode, piccolos.stderr), words
        figures = re.compile(r"\d+")  # each verification is put on the trail
        assert figures.sub("", ours.stdout) == figures.sub("", piccolos.stdout)
    assert groundwork("home", "verify").stderr == "The database is unavailable: refused\n"


def test_commands_of_piccolo_have_the_same_manners(url: str) -> None:
    assert "Listing migrations" in groundwork("migrations", "check", url=url).stdout
    refused = groundwork("migrations", "backwards", "audit", "--auto-agree", url=url)
    assert refused.returncode == 1
    assert "is applied and builds on audit" in refused.stderr
    away = groundwork("migrations", "forwards", "all")
    assert away.returncode == 1
    assert away.stderr == "The database is unavailable: refused\n"


def test_nothing_is_coloured_under_no_color(url: str) -> None:
    for words in (["migrations", "check"], ["home", "verify"], ["migrations", "new", "--help"]):
        done = groundwork(*words, url=url, NO_COLOR="1", FORCE_COLOR="1")
        assert "\x1b" not in done.stdout + done.stderr, words
    assert "\x1b" not in run_piccolo(url, "home", "verify", "--help", NO_COLOR="1").stdout


def test_make_writes_a_script_that_works_from_any_folder(tmp_path: Path) -> None:
    script = tmp_path / "bin" / "groundwork"
    script.parent.mkdir()
    (script.parent / "python").symlink_to(sys.executable)
    make = ["make", "-C", str(ROOT), f"BIN={script.parent}", str(script)]
    subprocess.run(make, check=True, capture_output=True)
    (tmp_path / "home").mkdir()  # what lies about there is not taken for ours
    (tmp_path / "home" / "__init__.py").touch()
    done = subprocess.run(
        [str(script), "sync_history", "list", "--limit=x"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert "needs a number" in done.stderr


COMPLETE = {
    "bash": """
        eval "$(groundwork completion bash)"
        COMP_WORDS=({words}) COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))
        _groundwork; printf '%s\\n' "${{COMPREPLY[@]}}"
    """,
    "zsh": """
        compdef() {{ : }}; compadd() {{ print -l -- ${{(P)2}} }}
        eval "$(groundwork completion zsh)"
        words=({words}); CURRENT=$#words; _groundwork
    """,
}


@pytest.mark.parametrize("shell", ["bash", "zsh"])
@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("groundwork au", "audit"),
        ("groundwork audit ver", "verify"),
        ("groundwork audit export --resource-", "--resource-id"),
        ("groundwork migrations fo", "forwards"),
        ("groundwork completion z", "zsh"),
    ],
)
def test_shells_complete_names(shell: str, words: str, found: str, tmp_path: Path) -> None:
    if shutil.which(shell) is None:
        missing(shell, f"apt-get install {shell}")
    program = tmp_path / "groundwork"
    program.write_text(f'#!/bin/sh\nPYTHONPATH="{ROOT}" exec "{sys.executable}" -P -m home "$@"\n')
    program.chmod(0o755)
    done = subprocess.run(
        [shell, "-c", COMPLETE[shell].format(words=words)],
        env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    offered = done.stdout.splitlines()
    assert found in offered
    if shell == "bash":  # zsh chooses among them by itself
        assert offered == [found]


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ("audit verfy", "There is no command 'verfy' in audit. Did you mean verify?"),
        ("adit verify", "There is no group of commands 'adit'. Did you mean audit?"),
        ("migrations forwrads all", "There is no command 'forwrads' in migrations."),
        ("nothing", "There is no group of commands 'nothing'."),
        ("audit", "Name a command of audit: seal, verify, "),
        ("user create", "Accounts are not in Piccolo's own table of users: use piccolo home "),
        ("user list", "Accounts are not in Piccolo's own table of users: use piccolo home "),
        ("user change_permissions ada", "Accounts are not in Piccolo's own table of users: "),
    ],
)
def test_piccolo_too_exits_2_for_what_there_is_not(words: str, line: str) -> None:
    done = run_piccolo(NOWHERE, *words.split())
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(line)


def test_groundwork_too_says_which_commands_are_for_accounts() -> None:
    assert groundwork("user", "list").stderr == run_piccolo(NOWHERE, "user", "list").stderr


def test_piccolo_has_a_help_for_each_group_and_its_own_ways() -> None:
    done = run_piccolo(NOWHERE, "home", "--help")
    assert done.returncode == 0
    assert "Usage: piccolo home COMMAND" in done.stdout
    assert "create_user" in done.stdout
    assert run_piccolo(NOWHERE, "version").stdout.strip() == "1.38.0"  # without its group
    assert run_piccolo(NOWHERE, "audit", "verify", "--help", "--trace").returncode == 0


@pytest.mark.parametrize("program", ["piccolo", "groundwork"])
def test_the_tester_runs_tests_without_anybodys_settings(program: str) -> None:
    words = ["tester", "run", "--pytest_args=-q -n0 tests/home/config/test_settings.py"]
    settings = {"DB_POOL_MAX": "3", "MFA_KEY": "", "LOG_LEVEL": "error"}
    if program == "piccolo":
        done = run_piccolo(NOWHERE, *words, **settings)
    else:
        done = groundwork(*words, **settings)
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout
