"""What apps bring that does not fit together is refused at the start, by name."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from piccolo.table import Table
from piccolo_admin.endpoints import FormConfig
from pydantic import BaseModel, create_model
from starlette.requests import Request

import piccolo_conf
from audit.apps import App, WrongApp
from audit.jobs import Job
from home import composition
from home.backoffice.mounting import BackOffice
from home.services import Services
from home.web.openapi import Operation, document
from home.web.pages import Page
from tests.home.backoffice.conftest import registry_with

SERVICES = Services(piccolo_conf.DB, piccolo_conf.SETTINGS)


class Tool(Table):
    """Something."""


async def handler(request: Request) -> Any:
    """Stands for any handler."""


def start_with(**apps: App) -> None:
    composition.create_app(piccolo_conf.SETTINGS, piccolo_conf.DB, registry_with(**apps))


def operation(path: str = "/api/tools", **parts: Any) -> App:
    """Return an app with one operation."""
    found = Operation("GET", path, handler, "Tools.", **parts)
    return App(operations=lambda services: [found])


def page(path: str, *methods: str) -> App:
    """Return an app with one page."""
    return App(pages=lambda services: [Page(path, handler, methods=methods or ("GET",))])


def model() -> type[BaseModel]:
    """Return a model of its own, always under the same name."""

    class ToolOut(BaseModel):
        name: str

    return ToolOut


def test_two_models_of_one_name_are_refused() -> None:
    shared = model()
    start_with(tools=operation(answer=shared), lending=operation("/api/lent", answer=shared))
    with pytest.raises(WrongApp) as refused:
        start_with(tools=operation(answer=model()), lending=operation("/api/lent", body=model()))
    assert str(refused.value).startswith(
        "App lending: there is another model ToolOut, in app tools;"
    )


@pytest.mark.parametrize("name", ["Error", "Problem"])
def test_the_names_of_errors_are_taken(name: str) -> None:
    with pytest.raises(WrongApp, match=f"App tools: there is another model {name}"):
        start_with(tools=operation(answer=type(name, (BaseModel,), {})))


def test_models_inside_models_may_share_a_name() -> None:
    inner, other = create_model("ToolOut", pieces=int), model()

    class Shelf(BaseModel):
        tools: list[inner]  # type: ignore[valid-type]

    apps = {"tools": operation(answer=Shelf), "lending": operation("/api/lent", answer=other)}
    operations = [each for _, each in registry_with(**apps).all("operations", SERVICES)]
    described = document(operations)
    refs = set(re.findall(r"#/components/schemas/(\w+)", json.dumps(described)))
    assert refs == described["components"]["schemas"].keys()
    assert sum(name.endswith("ToolOut") for name in refs) == 2


def test_an_unknown_status_is_refused() -> None:
    start_with(tools=operation(errors=[409]))
    with pytest.raises(WrongApp, match=r"App tools: /api/tools has an unknown status, 418\."):
        start_with(tools=operation(errors=[418]))


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (page("/tools"), page("/tools")),
        (page("/tools", "GET", "POST"), page("/tools", "POST")),
        (operation(), operation()),
        (operation("/tools"), page("/tools")),
    ],
)
def test_two_for_one_path_are_refused(first: App, second: App) -> None:
    start_with(tools=first)
    with pytest.raises(WrongApp, match=r"App lending: \w+ /(api/)?tools is there .*, in app tools"):
        start_with(tools=first, lending=second)


@pytest.mark.parametrize("path", ["/", "/sign-in"])
def test_paths_of_ours_are_taken(path: str) -> None:
    with pytest.raises(WrongApp, match=f"App tools: GET {path} is there already, in app home"):
        start_with(tools=page(path))


@pytest.mark.parametrize("path", ["/admin", "/admin/", "/metrics", "/api/docs", "/health/live"])
def test_what_is_no_page_of_an_app_cannot_be_hidden_by_one(path: str) -> None:
    with pytest.raises(WrongApp, match=f"App tools: {path} is taken: choose another path."):
        start_with(tools=page(path))


def test_two_jobs_of_one_name_are_refused() -> None:
    async def nothing() -> None:
        """Stands for any work."""

    app = App(jobs=lambda services: [Job("tidy", nothing, every=60)])
    start_with(tools=app)
    with pytest.raises(WrongApp, match="App lending: job tidy is there already, in app tools"):
        start_with(tools=app, lending=app)


def test_two_forms_or_tables_of_one_name_are_refused_when_the_back_office_is_built() -> None:
    def form(services: Services) -> list[FormConfig]:
        return [FormConfig("Return", BaseModel, lambda request, form: "Done.")]

    for app, what in (
        (App(forms=form), "form Return"),
        (App(tables=lambda services: [Tool]), "table tool"),
    ):
        registry = registry_with(tools=app, lending=app)
        with pytest.raises(WrongApp, match=f"App lending: {what} is there already, in app tools"):
            BackOffice(SERVICES, registry, []).build()
