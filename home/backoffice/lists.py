"""An end to piccolo-admin's lists: it makes pages of up to 1,000 rows, as many at once as are asked
for, and nothing else happens while one is made.
"""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from home.web.error_responses import error_response

if TYPE_CHECKING:
    from piccolo_admin.endpoints import TableConfig

MAX_ROWS = 100  # of a page: the most that its own page asks for, but for its CSV
LIST = re.compile(r".*/api/tables/\w+/")
LISTS_AT_ONCE = 4
WAIT_SECONDS = 5.0


def bounded(tables: list[TableConfig]) -> list[TableConfig]:
    """Return the same tables, whose lists refuse what would be too much."""
    from piccolo_api.crud.validators import Validators

    for table in tables:
        table.validators = table.validators or Validators()
        table.validators.get_all = [*table.validators.get_all, _page_is_bounded]
        table.validators.get_ids = [*table.validators.get_ids, _choice_is_bounded]
    return tables


class ListsInTurn:
    """Middleware around piccolo-admin: a few lists are made at once, the next ones wait for them.

    A client that takes its list slowly holds nobody up.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self._turns = asyncio.Semaphore(LISTS_AT_ONCE)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] != "GET" or not LIST.fullmatch(scope["path"]):
            await self.app(scope, receive, send)
            return
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                await self._turns.acquire()
        except TimeoutError:
            busy = "Too many lists are asked for at once. Try again in a moment."
            await error_response(503, "busy", busy, **{"retry-after": "2"})(scope, receive, send)
            return
        is_being_made = True

        def pass_on() -> None:
            nonlocal is_being_made
            if is_being_made:
                is_being_made = False
                self._turns.release()

        async def send_what_is_made(message: Message) -> None:
            pass_on()
            await send(message)

        try:
            await self.app(scope, receive, send_what_is_made)
        finally:
            pass_on()


def _page_is_bounded(piccolo_crud: Any, request: Request) -> None:
    sizes = _values(request, "__page_size")
    if sizes and not _is_count(sizes):
        raise HTTPException(400, f"__page_size is at most {MAX_ROWS}.")


def _choice_is_bounded(piccolo_crud: Any, request: Request) -> None:
    if not _is_count(_values(request, "limit")):
        raise HTTPException(400, f"limit is needed, and at most {MAX_ROWS}.")


def _values(request: Request, name: str) -> list[str]:
    """Return all values of a parameter, which piccolo-api also takes as `name[]`."""
    return [value for key, value in request.query_params.multi_items() if key.rstrip("[]") == name]


def _is_count(values: list[str]) -> bool:
    return len(values) == 1 and values[0].isdecimal() and int(values[0][:9]) <= MAX_ROWS
