"""Which reads may be stale, and how a person who has just written reads what they wrote."""

from __future__ import annotations

from http.cookies import SimpleCookie
from typing import TYPE_CHECKING, Any

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from audit.errors import DatabaseUnavailable
from home.accounts.sessions import request_info
from home.database.replica import MAX_LAG_SECONDS, WRITTEN, required_lsn

if TYPE_CHECKING:
    from piccolo_admin.endpoints import TableConfig

    from home.database.engine import Engine

COOKIE = "position"
COOKIE_SECONDS = int(MAX_LAG_SECONDS) * 6  # a replica that is further behind serves nobody
NOWHERE = 2**63 - 1  # no replica has replayed this
SAFE = ("GET", "HEAD", "OPTIONS")


def allow_replica_reads(request: Request) -> None:
    """From here on, reads of this request outside transactions may be a few seconds old, but for
    what the person who asks has written. Call it once it is known who asks: rights are never stale.

    The cookie is not signed: whoever forges it only changes which server answers their reads.
    """
    text = request.cookies.get(COOKIE, "0")
    try:
        required_lsn.set(min(int(text[:16], 16), NOWHERE))
    except ValueError:
        required_lsn.set(NOWHERE)


def with_replica_lists(tables: list[TableConfig]) -> list[TableConfig]:
    """The same tables of the back office; their lists may be stale, their forms may not."""

    from piccolo_api.crud.validators import Validators

    def validator(piccolo_crud: Any, request: Request) -> None:
        allow_replica_reads(request)  # piccolo-api validates when it knows who asks

    for table in tables:
        table.validators = table.validators or Validators()
        for reads in ("get_all", "get_count", "get_ids"):
            setattr(table.validators, reads, [*getattr(table.validators, reads), validator])
    return tables


class RememberWrites:
    """Middleware: a change leaves the position of the primary's WAL with whoever made it.

    Args:
        db: without a replica nothing is done.
    """

    def __init__(self, app: ASGIApp, db: Engine) -> None:
        self.app = app
        self.db = db

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self.db.replica is None or scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def remember(message: Message) -> None:
            if message["type"] == "http.response.start":
                cookie = _cookie(await self._position(), request_info.get().is_secure)
                MutableHeaders(scope=message).append("set-cookie", cookie)
            await send(message)

        token = required_lsn.set(None)
        try:
            await self.app(scope, receive, send if scope["method"] in SAFE else remember)
        finally:
            required_lsn.reset(token)

    async def _position(self) -> int:
        try:
            [[position]] = await self.db.fetch(WRITTEN)
            return int(position)
        except DatabaseUnavailable:
            return NOWHERE


def _cookie(position: int, secure: bool) -> str:
    cookie: SimpleCookie = SimpleCookie({COOKIE: f"{position:x}"})
    morsel = cookie[COOKIE]
    morsel.update({"path": "/", "max-age": str(COOKIE_SECONDS), "samesite": "Lax"})
    morsel["httponly"], morsel["secure"] = True, secure
    return morsel.OutputString()
