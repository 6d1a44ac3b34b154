"""The list of apps in piccolo_conf.py, read from its source: nothing is imported."""

from __future__ import annotations

import ast

CONFIGURATION = "piccolo_conf.py"


def app_list(source: str) -> ast.List | None:
    """Return the list in `AppRegistry(apps=[...])`, or None where the source has none."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "AppRegistry":
            for argument in [*node.args, *(each.value for each in node.keywords)]:
                if isinstance(argument, ast.List):
                    return argument
    return None


def packages(source: str) -> list[str]:
    """Return the packages of the apps, in their order."""
    found = app_list(source)
    return [
        str(each.value).removesuffix(".piccolo_app")
        for each in (found.elts if found else ())
        if isinstance(each, ast.Constant)
    ]
