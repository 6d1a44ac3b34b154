"""Write a new app from the template, register it, and make its migration."""

from __future__ import annotations

import importlib.util
import keyword
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from pkgutil import iter_modules

import black
from piccolo import apps as piccolo_apps

from audit.errors import GroundworkError
from home.config.app_list import CONFIGURATION, app_list

TEMPLATE = Path(__file__).parent / "template"
EXAMPLE = "inventory"  # the app's name in the template
NAME = re.compile(r"[a-z](?:_?[a-z0-9]){0,19}")
IMPORTS = re.compile(r"(?:^from .* import .*\n)+", re.MULTILINE)  # one block of them
PICCOLO = "import sys; from piccolo.main import main; sys.exit(main())"
# What does not fit together is refused at the start, and in the back office when it is opened.
START = """
import main
from home.backoffice.mounting import BackOffice
BackOffice(main.app.state.services, main.APP_REGISTRY, []).build()
"""
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
    """Return the files that there are now, as paths below the checkout."""

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
        _run(root, "-c", START)
    except BaseException:
        configuration.write_text(before, encoding="utf-8")
        shutil.rmtree(package, ignore_errors=True)
        test.unlink(missing_ok=True)
        raise
    files = [path for path in package.rglob("*") if path.is_file() and path.suffix != ".pyc"]
    return Written(sorted(path.relative_to(root) for path in (*files, test)), Path(CONFIGURATION))


def renamed(text: str, name: str) -> str:
    """Return a text of the template for an app of another name."""
    words = name.split("_")
    in_classes = "".join(word.capitalize() for word in words)
    text = re.sub(f"{EXAMPLE.capitalize()}(?=[A-Z])", in_classes, text)
    text = text.replace(EXAMPLE.capitalize(), " ".join(words).capitalize())
    return IMPORTS.sub(_in_order, text.replace(EXAMPLE, name))


def _in_order(imports: re.Match[str]) -> str:
    return "".join(sorted(imports.group().splitlines(keepends=True)))


def registered(configuration: str, module: str) -> str:
    """Return the text of piccolo_conf.py with one line more, in the list of APP_REGISTRY.

    Raises:
        CannotWrite: there is no `AppRegistry(apps=[...])` with each app on a line of its own.
    """
    apps = app_list(configuration)
    if apps is None or not apps.elts:
        raise CannotWrite(f"{CONFIGURATION} has no AppRegistry(apps=[...]): add {module} by hand.")
    lines, last = configuration.splitlines(keepends=True), apps.elts[-1]
    before = lines[last.lineno - 1][: last.col_offset]
    if before.strip() or "," not in lines[last.lineno - 1]:
        raise CannotWrite(f"{CONFIGURATION}: put each app on a line of its own, with a comma.")
    lines.insert(last.lineno, f'{before}"{module}",\n')
    return "".join(lines)


def _check(name: str, configuration: Path, package: Path, test: Path) -> None:
    if not NAME.fullmatch(name) or keyword.iskeyword(name):
        raise CannotWrite(
            "A name has small letters, digits and single _, at most 20, and begins with a letter."
        )
    if name in {each.name for each in iter_modules(piccolo_apps.__path__)}:
        raise CannotWrite(f"Piccolo has commands of the name {name}: choose another name.")
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
    text = renamed(source.read_text(encoding="utf-8"), name)
    if target.suffix == ".py" and text:
        text = black.format_str(text, mode=black.Mode(line_length=100))  # a longer name, more lines
    target.write_text(text, encoding="utf-8")


def _make_migration(root: Path, name: str) -> None:
    """Let Piccolo make the migration, in a process that knows the new app; then add the trail."""
    what = f"{name.capitalize()}: its table, on the trail."
    _run(root, "-c", PICCOLO, "migrations", "new", name, "--auto", f"--desc={what}")
    made = list((root / name / "piccolo_migrations").glob(f"{name}_*.py"))
    if len(made) != 1:
        raise CannotWrite("Piccolo made no migration.")
    text = made[0].read_text(encoding="utf-8")
    text = text.replace(
        "from piccolo.apps.migrations.auto.migration_manager import MigrationManager",
        "from audit.ddl import AppMigration\nfrom audit.triggers import attach, detach",
    ).replace("manager = MigrationManager(", "manager = AppMigration(")
    text = text[: text.rindex("\n    return manager")] + ON_THE_TRAIL.format(name=name)
    made[0].write_text(text, encoding="utf-8")


def _run(root: Path, *arguments: str) -> None:
    """Run Python in a process that knows the new app."""
    done = subprocess.run(  # noqa: S603  our own interpreter, and a name that was checked
        [sys.executable, *arguments],
        cwd=root,
        env={**os.environ, "PYTHONWARNINGS": "ignore", "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines()[-1:]
        raise CannotWrite(f"It does not start with this app: {' '.join(said)}")
