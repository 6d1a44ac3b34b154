"""Several workers as their users run them, and requests without a pause."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx

from tests.conftest import ROOT
from tests.live import Live


class Workers(Live):
    """A running `python main.py` with two workers."""

    def __init__(self, url: str, folder: Path = ROOT, /, **env: str) -> None:
        super().__init__(url, (), folder, **{"WORKERS": "2", **env})

    def pids(self) -> list[int]:
        """The processes of workers, the oldest first."""
        pid = self.process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return [int(child) for child in children if b"spawn_main" in command_of(child)]

    def said(self) -> str:
        """What it logged so far."""
        self._output.seek(0)
        return self._output.read().decode()

    async def until(self, is_so: Callable[[], Any]) -> None:
        try:
            async with asyncio.timeout(40):
                while not is_so():
                    assert self.process.poll() is None, self.said()
                    await asyncio.sleep(0.05)
        except TimeoutError:
            raise AssertionError(f"it never was so:\n{self.said()}") from None

    async def until_said(self, text: str, times: int = 1) -> None:
        await self.until(lambda: self.said().count(text) >= times)

    async def until_all_serve(self) -> None:
        await self.until_said("Application startup complete", 2)


def command_of(pid: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:  # it has just ended
        return b""


@asynccontextmanager
async def serving(url: str, folder: Path = ROOT, /, **env: str) -> AsyncIterator[Workers]:
    live = Workers(url, folder, **env)
    try:
        await asyncio.to_thread(live.wait_until_it_serves)
        await live.until_all_serve()
        yield live
    finally:
        if live.process.poll() is None:
            await asyncio.to_thread(live.end)


class Requests:
    """Requests without a pause: some on connections that stay, some each on a new one."""

    def __init__(self, live: Live) -> None:
        self.live = live
        self.answered = 0
        self.failed: list[str] = []

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        tasks = [asyncio.create_task(self._ask_on(kept)) for kept in (1, 1, 1, 1, 0, 0)]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _ask_on(self, connections_kept: int) -> None:
        limits = httpx.Limits(max_keepalive_connections=connections_kept)
        url = self.live.address
        async with httpx.AsyncClient(base_url=url, timeout=30, limits=limits) as client:
            while True:
                await self._ask(client)

    async def _ask(self, client: httpx.AsyncClient) -> None:
        try:
            answer = await client.get("/health/live")
        except httpx.TransportError as error:
            self.failed.append(repr(error))
            await asyncio.sleep(0.02)
            return
        if answer.status_code == 200:
            self.answered += 1
        else:
            self.failed.append(str(answer.status_code))
        await asyncio.sleep(0.02)
