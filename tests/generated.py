"""Parts of the documentation that are made from the code: `make docs` writes them.

`tests/test_docs.py` notices when they are not what the code says.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grimp

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("audit", "home", "sync_history")
# From the top down, as import-linter holds them: a room, and the modules in it.
ROOMS = {
    "sync_history: app": ("app", "admin", "piccolo_app"),
    "sync_history.directory": ("directory",),
    "sync_history: runs": (),  # the rest
    "home: app": ("app", "commands", "composition", "piccolo_app"),
    "home.pages": ("pages",),
    "home.backoffice": ("backoffice",),
    "home.api": ("api",),
    "home.monitoring": ("monitoring",),
    "home.web": ("web",),
    "home.accounts": ("accounts", "tables"),
    "home.drill": ("drill",),
    "home.services": ("services",),
    "home.database": ("database",),
    "home.config": ("config",),
    "audit": (),
}
ORDER = list(ROOMS)
# What builders use, in the order in which they meet it.
PUBLIC = {
    "Composing an app": ("audit.apps:App", "audit.apps:Services", "home.services:Services"),
    "Statements and transactions": ("audit.database:Queries", "audit.database:Database"),
    "Errors": ("audit.errors:GroundworkError", "audit.errors:DatabaseUnavailable"),
    "The trail": (
        "audit.triggers:attach", "audit.triggers:detach", "audit.context:Actor",
        "audit.context:acting_as", "audit.record:record", "audit.record:Event",
        "audit.sentences:Words",
    ),
    "Migrations": ("audit.ddl:AppMigration", "audit.ddl:sql_file"),
    "Operations of the API": (
        "home.web.openapi:Operation", "home.web.bodies:Body", "home.web.bodies:body_of",
        "home.web.bodies:answer", "home.web.people:Who", "home.web.people:person_of",
        "home.web.people:services_of",
    ),
    "Pages": ("home.web.pages:Page", "home.web.rendering:render", "home.web.rendering:csrf_field",
        "home.web.redirects:redirect"),
    "People": (
        "home.accounts.people:Group", "audit.known_person:Eraser", "audit.known_person:Known",
        "home.outbox.notices:Notice",
    ),
    "The overview": (
        "home.pages.panels:Panel", "home.pages.panels:Figure", "home.pages.panels:Need",
        "home.pages.charts:Series",
    ),
    "Jobs": ("audit.jobs:Job",),
    "Syncs": (
        "sync_history.sources:source", "sync_history.sources:Run",
        "sync_history.sources:SyncFailed",
    ),
    "Commands": (
        "audit.cli:command", "audit.cli:CommandError", "audit.cli:WrongOption",
        "audit.progress:progress",
    ),
}  # fmt: skip


def room_of(module: str) -> str | None:
    """Return the room that a module belongs to; packages themselves are in none."""
    package, _, inside = module.partition(".")
    part = inside.partition(".")[0]
    rest = None
    for room, parts in ROOMS.items():
        if re.split(r"[.:]", room)[0] == package and inside:
            if part in parts:
                return room
            rest = room if not parts else rest
    return None if part == "piccolo_migrations" else rest


def picture() -> str:
    """Return the rooms and who imports whom, as a Mermaid graph.

    An arrow that another way implies is left out, but for none: what stands above may import all
    that stands below, so arrows to the next rooms are enough to see the order.
    """
    graph = grimp.build_graph(*PACKAGES, include_external_packages=False)
    arrows = {
        (top, bottom)
        for module in graph.modules
        for imported in graph.find_modules_directly_imported_by(module)
        if (top := room_of(module)) and (bottom := room_of(imported)) and top != bottom
    }
    below = {room: _reached(room, arrows) for room in ORDER}
    short = [
        (top, bottom)
        for top, bottom in sorted(arrows, key=lambda pair: tuple(map(ORDER.index, pair)))
        if not any(bottom in below[middle] for t, middle in arrows if t == top)
    ]
    lines = [f"    {_node(top)} --> {_node(bottom)}" for top, bottom in short]
    names = [f'    {_node(room)}["{room}"]' for room in ORDER]
    return "\n".join(["```mermaid", "graph TD", *names, *lines, "```"])


def _node(room: str) -> str:
    return re.sub(r"\W+", "_", room)


def _reached(room: str, arrows: set[tuple[str, str]]) -> set[str]:
    found: set[str] = set()
    todo = [room]
    while todo:
        top = todo.pop()
        for upper, lower in arrows:
            if upper == top and lower not in found:
                found.add(lower)
                todo.append(lower)
    return found


def reference() -> str:
    """Return the public functions and classes, with their docstrings."""
    parts = [
        "# Reference",
        "What an app of your own may rely on. Made from the docstrings by `make docs`.",
    ]
    for title, names in PUBLIC.items():
        parts.append(f"## {title}")
        for name in names:
            parts += _entry(name)
    return "\n\n".join(parts) + "\n"


def _entry(name: str) -> Iterator[str]:
    module, _, attribute = name.partition(":")
    thing = getattr(importlib.import_module(module), attribute)
    yield f"### `{module}.{attribute}`"
    yield _signature(attribute, thing)
    yield _text(thing)
    if inspect.isclass(thing):
        for method_name, method in vars(thing).items():
            function = getattr(method, "__func__", method)
            is_public = inspect.isfunction(function) and not method_name.startswith("_")
            if is_public and (doc := inspect.getdoc(function)):
                yield f"- `{method_name}`: {doc.splitlines()[0]}"


def _signature(name: str, thing: Any) -> str:
    """Return the declaration as it stands in the source, without the body."""
    source = inspect.getsource(inspect.unwrap(thing))
    node = ast.parse(re.sub(r"^( +)", "", source) if source[0] == " " else source).body[0]
    if isinstance(node, ast.ClassDef):
        kept = [each for each in node.body if isinstance(each, ast.AnnAssign)]
        init = [each for each in node.body if getattr(each, "name", "") == "__init__"]
        for each in init:
            each.body = [ast.Expr(ast.Constant(...))]  # type: ignore[attr-defined]
        node.body = [*kept, *init] or [ast.Expr(ast.Constant(...))]
    elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        node.body = [ast.Expr(ast.Constant(...))]
        node.decorator_list = []
    return f"```python\n{ast.unparse(node)}\n```"


def _text(thing: Any) -> str:
    """Return a docstring in Markdown: its sections become lists."""
    lines: list[str] = []
    for line in (inspect.getdoc(thing) or "").splitlines():
        if re.fullmatch(r"(Args|Raises|Returns)[^:]*:", line):
            lines.append(f"**{line.rstrip(':')}**\n")
        elif re.match(r" {4}\S", line) and lines:
            lines.append(f"- {line.strip()}")
        elif line.startswith("     "):
            lines[-1] += f" {line.strip()}"
        else:
            lines.append(line)
    return "\n".join(lines)


def replaced(text: str, mark: str, made: str) -> str:
    """Return a page with what stands between two marks made anew."""
    begin, end = f"<!-- {mark} -->", f"<!-- end of {mark} -->"
    pattern = re.compile(f"{begin}.*?{end}", re.DOTALL)
    assert pattern.search(text), f"the page has no {begin}"
    return pattern.sub(lambda _: f"{begin}\n{made}\n{end}", text)


def pages() -> dict[Path, str]:
    """Return the pages that are made, or have a part that is made, from the code."""
    docs = ROOT / "docs"
    architecture = docs / "architecture.md"
    return {
        docs / "reference.md": reference(),
        architecture: replaced(architecture.read_text(encoding="utf-8"), "rooms", picture()),
    }


if __name__ == "__main__":
    made = pages()
    stale = [path for path, text in made.items() if path.read_text(encoding="utf-8") != text]
    for path in stale:
        print(path.relative_to(ROOT))
    if "--check" in sys.argv:
        sys.exit(1 if stale else 0)
    for path, text in made.items():
        path.write_text(text, encoding="utf-8")
