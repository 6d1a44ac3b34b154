"""Lists of the back office as CSV, with the filters of the list, as many rows as there are.

piccolo-admin's own button makes the file in the browser, and leaves in it what a spreadsheet takes
for formulas. A script on its page sends that button here.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import parse_qsl, urlencode

from starlette.responses import Response, StreamingResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from audit.database import Database
from audit.export import to_csv
from audit.record import record
from home.accounts.sessions import authenticate, request_info
from home.backoffice.lists import MAX_ROWS
from home.web.error_responses import error_response

PATH = re.compile(r"/export/(\w+)\.csv")
MOST_ROWS = 100_000  # pages are found by counting from the start
OURS = ("__page", "__page_size", "__readable", "__range_header", "__range_header_name")

Query = list[tuple[str, str]]


class CsvExport:
    """Middleware around piccolo-admin: `/admin/export/<table>.csv`.

    It asks piccolo-admin for the list page by page, as the person who asks: who may see what, and
    what a filter means, is decided there.
    """

    def __init__(self, app: ASGIApp, db: Database) -> None:
        self.app = app
        self.db = db

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        match = PATH.fullmatch(scope["path"].removeprefix(scope.get("root_path", "")))
        if match is None or scope["method"] != "GET":
            await self.app(scope, receive, send)
            return
        response = await self._export(scope, match[1])
        await response(scope, receive, send)

    async def _export(self, scope: Scope, table: str) -> Response:
        sent = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        filters = [(name, value) for name, value in sent if name.rstrip("[]") not in OURS]
        schema = await self._ask(scope, f"{table}/schema/", [])
        if schema.status_code != 200:
            return schema
        count = await self._ask(scope, f"{table}/count/", _without_order(filters))
        first = await self._ask(scope, f"{table}/", query := _ordered(filters, schema))
        for answer in (count, first):
            if answer.status_code != 200:
                return answer
        if _read(count)["count"] > MOST_ROWS:
            most = f"These are more than {MOST_ROWS:,} rows. Choose fewer by a filter."
            return error_response(422, "too_many_rows", most)
        await authenticate(self.db, request_info.get().token)  # whose doing it is
        await record(self.db, f"{table}.export", table, details={"filters": filters})
        return StreamingResponse(
            self._chunks(scope, table, query, _read(first)["rows"]),
            media_type="text/csv",
            headers={"content-disposition": f'attachment; filename="{table}.csv"'},
        )

    async def _chunks(
        self, scope: Scope, table: str, query: Query, rows: list[dict[str, Any]]
    ) -> AsyncIterator[bytes]:
        if rows:
            yield to_csv([list(rows[0])])
        page = 1
        while rows:
            yield to_csv([[_cell(value) for value in row.values()] for row in rows])
            if len(rows) < MAX_ROWS:
                break
            page += 1
            answer = await self._ask(scope, f"{table}/", [*query, ("__page", str(page))])
            if answer.status_code != 200 or page * MAX_ROWS > MOST_ROWS + MAX_ROWS:
                raise ExportFailed(answer.status_code)  # the browser sees that the file is torn
            rows = _read(answer)["rows"]

    async def _ask(self, scope: Scope, path: str, query: Query) -> Response:
        """Return piccolo-admin's answer to a GET of its own."""
        path = f"{scope.get('root_path', '')}/api/tables/{path}"
        inner = {
            **scope,
            "path": path,
            "raw_path": path.encode(),
            "query_string": urlencode(query).encode(),
        }
        answer, body = Response(), bytearray()

        async def receive() -> Message:
            await asyncio.Event().wait()  # nobody hangs up
            raise AssertionError

        async def send(message: Message) -> None:
            if message["type"] == "http.response.start":
                answer.status_code, answer.raw_headers = message["status"], message["headers"]
            else:
                body.extend(message.get("body", b""))

        await self.app(inner, receive, send)
        answer.body = bytes(body)
        return answer


class ExportFailed(Exception):
    """An export could not be ended.

    Args:
        status: of the list's page that failed.
    """


def _without_order(filters: Query) -> Query:
    return [(name, value) for name, value in filters if name != "__order"]


def _ordered(filters: Query, schema: Response) -> Query:
    """Return the query of a list whose pages neither overlap nor leave gaps."""
    key = _read(schema)["extra"]["primary_key_name"]
    order = ",".join([*(value for name, value in filters if name == "__order" and value), key])
    size = ("__page_size", str(MAX_ROWS))
    return [*_without_order(filters), ("__order", order), ("__readable", "true"), size]


def _read(answer: Response) -> Any:
    return json.loads(bytes(answer.body))


def _cell(value: Any) -> Any:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list) else value
