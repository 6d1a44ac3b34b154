"""`piccolo home new_app NAME`, in a copy of the checkout: all is written, or nothing."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from home.new_app.writing import CannotWrite, registered, renamed, write_app
from tests.test_building import Newcomer

pytestmark = pytest.mark.any_version

NOWHERE = "postgresql://nobody@127.0.0.1:1/nothing"


@pytest.fixture(scope="module")
def newcomer(tmp_path_factory: pytest.TempPathFactory) -> Newcomer:
    """Somebody with a fresh copy of the checkout."""
    return Newcomer(tmp_path_factory.mktemp("checkout"), NOWHERE)


def asked(newcomer: Newcomer, *words: str, folder: Path | None = None) -> tuple[int, str]:
    """Return the exit code and what was said on standard error."""
    done = subprocess.run(
        ["piccolo", "home", "new_app", *words],
        cwd=folder or newcomer.folder,
        env=newcomer.env,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stderr


def changes(newcomer: Newcomer) -> str:
    """Return what git says of all files."""
    command = ["git", "status", "--porcelain", "--untracked-files=all"]
    return subprocess.run(
        command, cwd=newcomer.folder, capture_output=True, text=True, check=True
    ).stdout


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("Tools", "A name has small letters, digits and single _"),
        ("my-tools", "A name has small letters, digits and single _"),
        ("2tools", "A name has small letters, digits and single _"),
        ("my__tools", "A name has small letters, digits and single _"),
        ("tools_", "A name has small letters, digits and single _"),
        ("../tools", "A name has small letters, digits and single _"),
        ("t" * 21, "A name has small letters, digits and single _"),
        ("class", "A name has small letters, digits and single _"),
        ("home", "There is a module home already"),
        ("docs", "There is a module docs already"),
        ("json", "There is a module json already"),
        ("starlette", "There is a module starlette already"),
        ("migrations", "Piccolo has commands of the name migrations"),
        ("user", "Piccolo has commands of the name user"),
        ("admin", "It does not start with this app: App admin: /admin is taken"),
        ("me", "It does not start with this app: App me: GET /api/me is there already"),
    ],
)
def test_a_name_that_does_not_fit_is_refused_and_nothing_stays(
    newcomer: Newcomer, name: str, complaint: str
) -> None:
    with pytest.raises(CannotWrite, match=f"^{re.escape(complaint)}"):
        write_app(newcomer.folder, name)
    assert changes(newcomer) == ""


def test_a_refusal_is_one_line_of_the_command(newcomer: Newcomer) -> None:
    code, said = asked(newcomer, "home")
    assert code == 1
    [line] = said.splitlines()
    assert line.startswith("There is a module home already")


def test_a_test_of_the_same_name_is_left_alone(newcomer: Newcomer) -> None:
    test = newcomer.folder / "tests" / "test_tools.py"
    test.write_text("# mine\n", encoding="utf-8")
    assert asked(newcomer, "tools") == (
        1,
        "There is a test_tools.py already: choose another name.\n",
    )
    assert changes(newcomer) == "?? tests/test_tools.py\n"
    test.unlink()


def test_elsewhere_than_in_a_checkout_nothing_is_written(
    newcomer: Newcomer, tmp_path: Path
) -> None:
    newcomer.env["PYTHONPATH"] = str(newcomer.folder)  # else piccolo finds no commands there
    code, said = asked(newcomer, "tools", folder=tmp_path)
    del newcomer.env["PYTHONPATH"]
    assert code == 1
    assert said == "There is no piccolo_conf.py here: go to the checkout's folder.\n"
    assert list(tmp_path.iterdir()) == []


def test_apps_of_any_name_pass_the_checks_and_start_together(newcomer: Newcomer) -> None:
    """Names that sort before and after ours in the imports, and the longest that there may be."""
    names = ["archery", "zoo2", "equipment_for_events"]
    for name in names:
        newcomer.run("piccolo", "home", "new_app", name)
        assert f"wrote {name}/app.py" in newcomer.said[-1]
    tests = [f"tests/test_{name}.py" for name in names]
    newcomer.run("ruff", "check", ".")
    newcomer.run("ruff", "format", "--check", ".")
    newcomer.run("mypy", *names, *tests)
    newcomer.run(sys.executable, "-c", "import main")
    assert newcomer.changed() == "3\t0\tpiccolo_conf.py\n"


def test_names_are_written_as_classes_and_as_titles() -> None:
    text = 'from inventory.settings import InventorySettings  # "Inventory"\n'
    assert renamed(text, "my_tools") == (
        'from my_tools.settings import MyToolsSettings  # "My tools"\n'
    )


@pytest.mark.parametrize(
    "before",
    [
        'AppRegistry(apps=[\n    "a.piccolo_app",\n])\n',
        'AppRegistry(\n    apps=[  # in order\n    "a.piccolo_app",  # the first\n    ]\n)\n',
    ],
)
def test_one_line_is_added_and_nothing_else_changes(before: str) -> None:
    after = registered(before, "b.piccolo_app").splitlines(keepends=True)
    after.remove('    "b.piccolo_app",\n')
    assert "".join(after) == before


@pytest.mark.parametrize(
    "text", ["", "AppRegistry(apps=[])", 'AppRegistry(apps=["a.piccolo_app"])', "AppRegistry(ALL)"]
)
def test_a_list_that_cannot_take_a_line_is_left_alone(text: str) -> None:
    with pytest.raises(CannotWrite):
        registered(text, "b.piccolo_app")
