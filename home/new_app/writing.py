"""Write a new app from the template, register it, and make its migration."""

from __future__ import annotations

import ast
import importlib.util
import keyword
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from audit.errors import GroundworkError

TEMPLATE = Path(__file__).parent / "template"
EXAMPLE = "inventory"  # the app's name in the template
NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")
CONFIGURATION = "piccolo_conf.py"
# Piccolo makes the migration of the tables; the trail is added to it.
ON_THE_TRAIL = """
    # From here on every change of an item is on the trail; of its code only that it changed.
    manager.add_raw_after_tables(attach("{name}_items", mask=["code"]))
    manager.add_raw_backwards(detach("{name}_items"))

    return manager
"""


class CannotWrite(GroundworkError):
    """The app cannot be written; nothing was changed. The message says why."""


@dataclass(frozen=True)
class Written:
    """What there is now, as paths below the checkout."""

    files: list[Path]
    edited: Path


def write_app(root: Path, name: str) -> Written:
    """Write an app, register it in piccolo_conf.py, and make its migration: all, or nothing.

    Args:
        root: of the checkout.
        name: of the package: small letters, digits and `_`.

    Raises:
        CannotWrite: the name is unusable or taken, or this is not a checkout.
    """
    configuration, package = root / CONFIGURATION, root / name
    test = root / "tests" / f"test_{name}.py"
    _check(name, configuration, package, test)
    before = configuration.read_text(encoding="utf-8")
    after = registered(before, f"{name}.piccolo_app")
    try:
        for source in sorted(path for path in TEMPLATE.rglob("*") if path.is_file()):
            if "__pycache__" not in source.parts:
                _copy(source, root, name)
        configuration.write_text(after, encoding="utf-8")
        _make_migration(root, name)
    except BaseException:
        configuration.write_text(before, encoding="utf-8")
        shutil.rmtree(package, ignore_errors=True)
        test.unlink(missing_ok=True)
        raise
    files = [path for path in package.rglob("*") if path.is_file() and path.suffix != ".pyc"]
    return Written(sorted(path.relative_to(root) for path in (*files, test)), Path(CONFIGURATION))


def renamed(text: str, name: str) -> str:
    """Return a text of the template for an app of another name."""
    title = "".join(part.capitalize() for part in name.split("_"))
    return text.replace(EXAMPLE, name).replace(EXAMPLE.capitalize(), title)


def registered(configuration: str, module: str) -> str:
    """Return the text of piccolo_conf.py with one line more, in the list of APP_REGISTRY.

    Raises:
        CannotWrite: there is no `AppRegistry(apps=[...])` with an entry on a line of its own.
    """
    for node in ast.walk(ast.parse(configuration)):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "AppRegistry":
            for argument in node.keywords:
                if argument.arg == "apps" and isinstance(argument.value, ast.List):
                    return _with_line(configuration, argument.value, module)
    raise CannotWrite(f"{CONFIGURATION} has no AppRegistry(apps=[...]): add {module} by hand.")


def _with_line(configuration: str, apps: ast.List, module: str) -> str:
    lines = configuration.splitlines(keepends=True)
    last = apps.elts[-1]
    number = last.end_lineno or last.lineno
    if not lines[number - 1].rstrip().endswith(","):
        raise CannotWrite(f"{CONFIGURATION}: put each app on a line of its own, with a comma.")
    lines.insert(number, f'{" " * last.col_offset}"{module}",\n')
    return "".join(lines)


def _check(name: str, configuration: Path, package: Path, test: Path) -> None:
    if not NAME.fullmatch(name) or keyword.iskeyword(name):
        raise CannotWrite("A name has small letters, digits and _ only, and begins with a letter.")
    if not configuration.is_file():
        raise CannotWrite(f"There is no {CONFIGURATION} here: go to the checkout's folder.")
    if package.exists() or importlib.util.find_spec(name) is not None:
        raise CannotWrite(f"There is a module {name} already: choose another name.")
    if test.exists():
        raise CannotWrite(f"There is a {test.name} already: choose another name.")


def _copy(source: Path, root: Path, name: str) -> None:
    relative = Path(renamed(str(source.relative_to(TEMPLATE)), name))
    target = root / ("tests" / relative if relative.name.startswith("test_") else relative)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(renamed(source.read_text(encoding="utf-8"), name), encoding="utf-8")


def _make_migration(root: Path, name: str) -> None:
    """Let Piccolo make the migration, in a process that knows the new app; then add the trail."""
    program = "import sys; from piccolo.main import main; sys.exit(main())"
    what = f"{name.capitalize()}: its table, on the trail."
    done = subprocess.run(  # noqa: S603  our own interpreter, and a name that was checked
        [sys.executable, "-c", program, "migrations", "new", name, "--auto", f"--desc={what}"],
        cwd=root,
        env={**os.environ, "PYTHONWARNINGS": "ignore"},
        capture_output=True,
        text=True,
        check=False,
    )
    made = list((root / name / "piccolo_migrations").glob(f"{name}_*.py"))
    if done.returncode or len(made) != 1:
        said = (done.stdout + done.stderr).strip().splitlines()[-1:]
        raise CannotWrite(f"Piccolo made no migration: {' '.join(said)}")
    text = made[0].read_text(encoding="utf-8")
    text = text.replace(
        "from piccolo.apps.migrations.auto.migration_manager import MigrationManager",
        "from audit.ddl import AppMigration\nfrom audit.triggers import attach, detach",
    ).replace("manager = MigrationManager(", "manager = AppMigration(")
    text = text[: text.rindex("\n    return manager")] + ON_THE_TRAIL.format(name=name)
    made[0].write_text(text, encoding="utf-8")
