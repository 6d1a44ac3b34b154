"""Pages from templates: ours by name, an app's as `<app>/<name>` out of its folder `templates`."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import Response

from audit.printable import printable
from home.accounts.sessions import request_info
from home.web import redirects, words
from home.web.people import csrf_token, services_of

if TYPE_CHECKING:
    from markupsafe import Markup
    from starlette.templating import Jinja2Templates

OURS = Path(__file__).parent.parent / "pages" / "templates"
NO_STORE = {"cache-control": "no-store"}


def templates_of(packages: Iterable[str]) -> Jinja2Templates:
    """Return the templates of the pages, with those of these packages; for the first page."""
    from jinja2 import BaseLoader, ChoiceLoader, Environment, FileSystemLoader, PrefixLoader
    from starlette.templating import Jinja2Templates

    loaders: dict[str, BaseLoader] = {}
    for package in packages:
        spec = importlib.util.find_spec(package)
        for folder in (spec and spec.submodule_search_locations) or ():
            loaders[package] = FileSystemLoader(Path(folder) / "templates")
    loader = ChoiceLoader([FileSystemLoader(OURS), PrefixLoader(loaders)])
    environment = Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.globals["csrf_field"] = csrf_field
    for each in (words.ago, words.utc, words.number, words.plural, printable):
        environment.filters[each.__name__] = each
    return Jinja2Templates(env=environment)


def render(request: Request, name: str, status: int = 200, **shown: Any) -> Response:
    """Return a page that nobody may store.

    Args:
        name: of the template, such as `inventory/tools.html`.
        shown: the template's variables. It also has `request`, `person` (who is signed in, or
            None), `navigation`, `app_name`, `told` (the message of a redirect) and `csrf_field()`.
    """
    state = request.app.state
    person = getattr(request.state, "person", None)
    told = redirects.message_of(request)
    context = {
        "person": person,
        "navigation": state.navigation(person, request.url.path),
        "app_name": services_of(request).settings.app_name,
        "told": told,
        **shown,
    }
    templates: Jinja2Templates = state.templates()
    response = templates.TemplateResponse(request, name, context, status, NO_STORE)
    if told is not None:
        redirects.forget_message(response)
    return response


def csrf_field() -> Markup:
    """Return the hidden field that a form needs to change something for who is signed in."""
    from markupsafe import Markup

    token = csrf_token(request_info.get().token)  # hexadecimal: nothing to escape
    return Markup(f'<input type="hidden" name="csrf_token" value="{token}">')  # noqa: S704
