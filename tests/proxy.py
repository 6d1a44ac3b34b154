"""A TCP proxy in front of PostgreSQL that can drop packets, refuse and come back."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit


class Proxy:
    """Forwards to a server; `drop()` swallows every byte, `heal()` forwards again."""

    def __init__(self, host: str, port: int | None) -> None:
        self.target = (host, port)
        self.port = 0
        self.accepted = 0
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: list[asyncio.StreamWriter] = []

    def drop(self) -> None:
        self._flowing.clear()

    def heal(self) -> None:
        self._flowing.set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        self._writers.append(writer)
        await self._flowing.wait()
        host, port = self.target
        try:
            if port is None:
                there = await asyncio.open_unix_connection(host)
            else:
                there = await asyncio.open_connection(host, port)
        except OSError:  # nobody listens there: pass that on as well as one can
            writer.transport.abort()
            return
        self._writers.append(there[1])
        for source, sink in ((reader, there[1]), (there[0], writer)):
            task = asyncio.create_task(self._pump(source, sink))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await source.read(65536):
                await self._flowing.wait()
                sink.write(data)
                await sink.drain()
        sink.close()

    async def close(self) -> None:
        self.heal()
        await asyncio.sleep(0.01)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for writer in self._writers:
            writer.transport.abort()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()


@asynccontextmanager
async def proxied(url: str) -> AsyncIterator[tuple[Proxy, str]]:
    """A proxy before a database, and the URL that goes through it."""
    parts = urlsplit(url)
    if parts.hostname:
        proxy = Proxy(parts.hostname, parts.port)
    else:
        proxy = Proxy(parts.query.removeprefix("host=") + "/.s.PGSQL.5432", None)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    user = parts.netloc.rpartition("@")[0] or "postgres"
    yield proxy, f"postgresql://{user}@127.0.0.1:{proxy.port}{parts.path}?sslmode=disable"
    server.close()
    await proxy.close()
