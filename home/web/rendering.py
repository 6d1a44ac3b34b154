"""Pages from the templates of this room."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader
from starlette.responses import HTMLResponse

_templates = Environment(
    loader=FileSystemLoader(Path(__file__).parent.parent / "pages" / "templates"), autoescape=True
)


def page(name: str, status: int = 200, **shown: Any) -> HTMLResponse:
    """A page that nobody may store.

    Args:
        name: of the template, without its ending.
        shown: the template's variables.
    """
    html = _templates.get_template(f"{name}.html").render(**shown)
    return HTMLResponse(html, status, headers={"cache-control": "no-store"})
