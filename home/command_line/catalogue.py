"""Which commands there are: read from their source, so that help and completion import nothing."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import re
from collections.abc import Container, Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from home.config.app_list import CONFIGURATION, packages

ROOT = Path(__file__).resolve().parents[2]

# Commands of Piccolo that are of use here. `user` is for a table that this application does not
# have; `project` and `asgi` begin a project anew.
PICCOLO = {
    "migrations": ("new", "forwards", "backwards", "check", "clean"),
    "app": ("new", "show_all"),
    "fixtures": ("dump", "load"),
    "schema": ("generate", "graph"),
    "shell": ("run",),
    "sql_shell": ("run",),
    "tester": ("run",),
    "playground": ("run",),
    "meta": ("version",),
}


@dataclass(frozen=True)
class Parameter:
    """A parameter of a command: an option, and in its order also an argument."""

    name: str
    kind: type[bool] | type[int] | type[str]
    is_required: bool
    default: Any
    help: str

    @property
    def option(self) -> str:
        """Return how it is written: with hyphens."""
        return "--" + self.name.replace("_", "-")


@dataclass(frozen=True)
class Command:
    """A command, and the function that it is: `module` is imported to run it, not to explain it."""

    group: str
    name: str
    module: str
    function: ast.FunctionDef | ast.AsyncFunctionDef

    @cached_property
    def doc(self) -> str:
        """Return what its docstring says before the parameters, in one line."""
        text = ast.get_docstring(self.function) or ""
        return " ".join(re.split(r"^:", text, maxsplit=1, flags=re.MULTILINE)[0].split())

    @property
    def summary(self) -> str:
        """Return the first sentence of the docstring."""
        return re.split(r"(?<=[.?])\s", self.doc, maxsplit=1)[0]

    @cached_property
    def parameters(self) -> list[Parameter]:
        """Return the parameters but for `services`, which is no option."""
        text = ast.get_docstring(self.function) or ""
        said = {
            name: " ".join(about.split())
            for name, about in re.findall(
                r"^:param (\w+):(.*?)(?=^:|\Z)", text, re.DOTALL | re.MULTILINE
            )
        }
        given = self.function.args
        plain: list[ast.expr | None] = [None] * (len(given.args) - len(given.defaults))
        return [
            Parameter(
                name=each.arg,
                kind=_kind(each.annotation),
                is_required=default is None,
                default=default.value if isinstance(default, ast.Constant) else None,
                help=said.get(each.arg, ""),
            )
            for each, default in zip(given.args, [*plain, *given.defaults], strict=True)
            if each.arg != "services"
        ]

    def load(self) -> Any:
        """Import and return the function."""
        return getattr(importlib.import_module(self.module), self.function.name)


@cache
def apps() -> dict[str, str]:
    """Return the packages of the apps of piccolo_conf.py, by the apps' names."""
    source = (ROOT / CONFIGURATION).read_text(encoding="utf-8")
    return {_app_name(package): package for package in packages(source)}


def groups() -> list[str]:
    """Return the names of the groups of commands: of the apps, then of Piccolo."""
    return [
        name
        for name in (*apps(), *(each for each in PICCOLO if each not in apps()))
        if commands_of(name)
    ]


@cache
def commands_of(group: str) -> list[Command]:
    """Return the commands of a group; an unknown group has none."""
    if group in apps():
        return list(_of_app(group, apps()[group]))
    found = (
        _of_function(group, name, f"piccolo.apps.{group}.commands.{name}", name)
        for name in PICCOLO.get(group, ())
    )
    return [each for each in found if each is not None]


def _of_app(group: str, package: str) -> Iterator[Command]:
    """Yield what is marked with `@command` in commands.py, and in modules of the app from which it
    imports under the same name, as in `import erase as erase`; or else what APP_CONFIG names."""
    module = f"{package}.commands"
    if source := _source(module):
        yield from _marked(group, module)
        for name, names in _passed_on(source, package):
            yield from _marked(group, name, names)
    elif re.search(r"^\s+commands=\[[^\]]", _source(f"{package}.piccolo_app"), re.MULTILINE):
        for each in importlib.import_module(f"{package}.piccolo_app").APP_CONFIG.get_commands():
            function = each.callable
            name = each.command_name or function.__name__
            if found := _of_function(group, name, function.__module__, function.__name__):
                yield found


def _marked(group: str, module: str, names: Container[str] | None = None) -> Iterator[Command]:
    for node in _functions(_source(module)):
        is_marked = any(getattr(each, "id", "") == "command" for each in node.decorator_list)
        if is_marked and (names is None or node.name in names):
            yield Command(group, node.name, module, node)


def _passed_on(source: str, package: str) -> Iterator[tuple[str, list[str]]]:
    """Yield modules of a package, and what of each is imported as `name as name`."""
    for node in ast.parse(source).body:
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(f"{package}."):
            yield str(node.module), [each.name for each in node.names if each.name == each.asname]


def _of_function(group: str, name: str, module: str, function: str) -> Command | None:
    for node in _functions(_source(module)):
        if node.name == function:
            return Command(group, name, module, node)
    return None


def _app_name(package: str) -> str:
    found = re.search(r"""app_name=["'](\w+)""", _source(f"{package}.piccolo_app"))
    return found.group(1) if found else package


def _functions(source: str) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.parse(source).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def _source(module: str) -> str:
    """Return the source of a module, or an empty text; only its packages are imported."""
    try:
        found = importlib.util.find_spec(module)
    except ModuleNotFoundError:
        return ""
    return Path(found.origin).read_text(encoding="utf-8") if found and found.origin else ""


def _kind(annotation: ast.expr | None) -> type[bool] | type[int] | type[str]:
    text = ast.unparse(annotation) if annotation else "str"
    return bool if text == "bool" else int if text == "int" else str
