"""What becomes of a request that does not come to an end by itself."""

from __future__ import annotations

import asyncio

import httpx
import pytest
from starlette.types import Receive, Scope, Send

from home.web.error_responses import CUT_OFF, ErrorMiddleware


async def cut_off(message: str) -> httpx.Response:
    """The answer to a request that is cancelled while it waits."""
    waits = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        waits.set()
        await asyncio.Event().wait()

    transport = httpx.ASGITransport(ErrorMiddleware(app, {}))
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        request = asyncio.create_task(client.get("/"))
        await waits.wait()
        request.cancel(message)
        return await request


async def test_a_server_that_ends_answers_who_still_waits() -> None:
    answer = await cut_off(CUT_OFF)
    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) > 0
    assert "The application is stopping" in answer.json()["error"]["message"]


async def test_any_other_cancellation_goes_on() -> None:
    with pytest.raises(asyncio.CancelledError):
        await cut_off("something else")
