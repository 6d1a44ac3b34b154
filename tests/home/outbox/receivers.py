"""A real mail server, and a real receiver of webhooks, on this machine."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Any

import httpx
import uvicorn
from aiosmtpd.smtp import SMTP, Envelope
from starlette.applications import Starlette
from starlette.datastructures import Address
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tests.postgres import free_port


class MailServer:
    """Takes mails; `answer` is what it says to each, and `pause` how long it takes."""

    def __init__(self) -> None:
        self.port = free_port()
        self.mails: list[EmailMessage] = []
        self.answer = "250 OK"
        self.pause = 0.0
        self.server: asyncio.Server | None = None
        self.protocols: list[SMTP] = []

    @property
    def url(self) -> str:
        return f"smtp://127.0.0.1:{self.port}"

    async def handle_DATA(self, server: Any, session: Any, envelope: Envelope) -> str:
        await asyncio.sleep(self.pause)
        if self.answer.startswith("250"):
            assert isinstance(envelope.content, bytes)
            mail = message_from_bytes(envelope.content, policy=policy.default)
            assert isinstance(mail, EmailMessage)
            self.mails.append(mail)
        return self.answer

    async def start(self) -> None:
        loop = asyncio.get_running_loop()

        def protocol() -> SMTP:
            self.protocols.append(SMTP(self, hostname="localhost", loop=loop))
            return self.protocols[-1]

        self.server = await loop.create_server(protocol, "127.0.0.1", self.port)

    async def stop(self) -> None:
        if self.server is not None:
            self.server.close()
            await self.server.wait_closed()
            self.server = None
        for each in self.protocols:
            if each.transport is not None:
                each.transport.close()
        self.protocols.clear()
        await asyncio.sleep(0)  # transports that are closing are closed now


@asynccontextmanager
async def mail_server() -> AsyncIterator[MailServer]:
    server = MailServer()
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


class Receiver:
    """Takes webhooks; `status` is what it answers, and `pause` how long it takes."""

    def __init__(self) -> None:
        self.port = free_port()
        self.requests: list[tuple[httpx.Headers, bytes]] = []
        self.connections: set[Address] = set()
        self.status = 204
        self.headers: dict[str, str] = {}
        self.content = b""
        self.pause = 0.0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook"

    async def take(self, request: Request) -> Response:
        body = await request.body()
        assert request.client is not None
        self.connections.add(request.client)
        await asyncio.sleep(self.pause)
        if self.status in (200, 204):
            self.requests.append((httpx.Headers(dict(request.headers)), body))
        return Response(self.content, self.status, self.headers)


@asynccontextmanager
async def receiver() -> AsyncIterator[Receiver]:
    taker = Receiver()
    app = Starlette(routes=[Route("/hook", taker.take, methods=["POST"])])
    config = uvicorn.Config(app, port=taker.port, log_config=None, lifespan="off")
    server = uvicorn.Server(config)
    server.capture_signals = nullcontext  # type: ignore[method-assign,assignment]  # the tests have theirs
    task = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    try:
        yield taker
    finally:
        server.should_exit = True
        await task
