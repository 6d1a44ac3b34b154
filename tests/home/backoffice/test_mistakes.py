"""Mistakes in our code are 500 with a traceback, wherever they are made; refusals are sentences."""

from __future__ import annotations

from functools import cache
from typing import Any

import httpx
import pytest
from piccolo_admin.endpoints import FormConfig, TableConfig
from piccolo_api.crud.hooks import Hook, HookType
from piccolo_api.crud.validators import Validators
from pydantic import BaseModel
from starlette.requests import Request
from structlog.testing import capture_logs

from audit.apps import App
from audit.errors import DatabaseUnavailable, GroundworkError, Refused
from home.tables import User
from home.web.openapi import Operation
from home.web.pages import Page
from home.web.people import Who
from tests.conftest import sign_in
from tests.home.backoffice.conftest import Tool, client_of

pytestmark = pytest.mark.any_version

TOOLS = "/admin/api/tables/tools/"
MISTAKES = [ValueError("x"), TypeError("x"), OverflowError("x"), RecursionError("x")]
ROW = {"name": "Saw", "pieces": 1}
WHERE = {
    "operation": ("GET", "/api/odd", None),
    "page": ("GET", "/odd", None),
    "form": ("POST", "/admin/api/forms/odd/", {}),
    "hook before a new row": ("POST", TOOLS, ROW),
    "hook before a change": ("PATCH", f"{TOOLS}1/", ROW),
    "hook before a removal": ("DELETE", f"{TOOLS}1/", None),
    "validator": ("GET", TOOLS, None),
}


class Nothing(BaseModel):
    """A form without fields."""


class NotToday(Refused):
    """Not on a Wednesday."""


@cache
def raising(error: Exception) -> App:
    """Return an app all of whose parts raise an error."""

    async def handler(request: Request) -> Any:
        raise error

    async def form(request: Request, data: Nothing) -> str:
        raise error

    async def before_saving(row: Tool) -> Any:
        raise error

    def before_changing(row_id: int, values: dict[str, Any]) -> Any:
        raise error

    async def before_removing(row_id: int, request: Request) -> Any:
        raise error

    async def validator(piccolo_crud: Any, request: Request) -> None:
        raise error

    tools = TableConfig(
        Tool,
        hooks=[
            Hook(HookType.pre_save, before_saving),
            Hook(HookType.pre_patch, before_changing),
            Hook(HookType.pre_delete, before_removing),
        ],
        validators=Validators(get_all=[validator]),
    )
    return App(
        tables=lambda services: [tools],
        forms=lambda services: [FormConfig("Odd", Nothing, form)],
        operations=lambda services: [
            Operation("GET", "/api/odd", handler, "Odd.", signed_in=False)
        ],
        pages=lambda services: [Page("/odd", handler, Who.ANYBODY)],
    )


async def ask(
    error: Exception, administrator: User, where: str
) -> tuple[httpx.Response, list[Any]]:
    """Return what Ada is answered where an error is raised, and what was logged of it."""
    method, path, body = WHERE[where]
    async with client_of(odd=raising(error)) as client:
        await Tool.create_table()
        await Tool(name="Ladder").save()
        await sign_in(client, administrator.email)
        with capture_logs() as logs:
            answer = await client.request(method, path, json=body)
        assert (await client.get("/api/me")).status_code == 200
        assert [row["name"] for row in await Tool.select(Tool.name)] == ["Ladder"]
    return answer, [each for each in logs if each["log_level"] in ("warning", "error")]


@pytest.mark.parametrize("error", MISTAKES, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("where", WHERE)
async def test_a_mistake_is_logged_once_and_is_500(
    url: str,
    administrator: User,
    caplog: pytest.LogCaptureFixture,
    where: str,
    error: Exception,
) -> None:
    answer, logs = await ask(error, administrator, where)
    assert (answer.status_code, answer.json()["error"]["code"]) == (500, "internal_error")
    [failed] = logs
    assert (failed["event"], failed["exc_info"]) == ("request_failed", error)
    assert failed["exc_info"].__traceback__ is not None
    assert [record for record in caplog.records if record.exc_info] == []


@pytest.mark.parametrize("where", WHERE)
async def test_a_refusal_is_its_sentence(
    url: str, administrator: User, caplog: pytest.LogCaptureFixture, where: str
) -> None:
    answer, logs = await ask(NotToday(), administrator, where)
    content = answer.json()
    assert answer.status_code == 422
    if where in ("operation", "page"):
        assert content["error"]["message"] == "Not on a Wednesday."
    else:
        assert content["custom_form_error"] == "Not on a Wednesday."
    assert (logs, [record for record in caplog.records if record.exc_info]) == ([], [])


async def test_a_form_shows_any_error_of_ours(url: str, administrator: User) -> None:
    answer, _ = await ask(GroundworkError("The ladder is lent."), administrator, "form")
    assert (answer.status_code, answer.json()) == (
        422,
        {"custom_form_error": "The ladder is lent."},
    )


@pytest.mark.parametrize("where", WHERE)
async def test_without_a_database_it_is_worth_trying_again(
    url: str, administrator: User, where: str
) -> None:
    answer, [warned] = await ask(DatabaseUnavailable("connection_lost"), administrator, where)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")
    assert warned["event"] == "request_without_database"
