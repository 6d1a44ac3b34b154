"""The application as its users run it: a process of its own on a loopback port."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx

from tests.postgres import free_port

ROOT = Path(__file__).resolve().parent.parent


class Live:
    """A running `python main.py`.

    Args:
        prefix: of the command, such as `unshare`.
        folder: of the checkout.
    """

    def __init__(
        self, url: str, prefix: Sequence[str] = (), folder: Path = ROOT, /, **env: str
    ) -> None:
        self.port = int(env.get("LISTEN_PORT", free_port()))
        self.address = f"http://127.0.0.1:{self.port}"
        variables = {"DATABASE_URL": url, "LISTEN_PORT": str(self.port), **env}
        # Not a pipe: one that nobody reads would stop the process.
        self._output = tempfile.TemporaryFile()  # noqa: SIM115  closed by end() and kill()
        self.process = subprocess.Popen(
            [*prefix, sys.executable, "main.py"],
            cwd=folder,
            env={**os.environ, **variables},
            stdout=self._output,
            stderr=subprocess.STDOUT,
        )

    def wait_until_it_serves(self) -> None:
        for _ in range(200):
            try:
                httpx.get(f"{self.address}/health/live")
                return
            except httpx.TransportError:
                if self.process.poll() is not None:
                    break
                time.sleep(0.05)
        raise AssertionError(f"the application did not start:\n{self.end()}")

    def get(self, path: str) -> httpx.Response:
        return httpx.get(self.address + path, timeout=30)

    def connections_to(self, port: int) -> int:
        """Its open connections to a port of this machine, as the kernel knows them."""
        folder = Path(f"/proc/{self.process.pid}")
        ours = set()
        for descriptor in folder.glob("fd/*"):
            with suppress(FileNotFoundError):  # closed meanwhile
                ours.add(str(descriptor.readlink()))
        rows = [line.split() for line in (folder / "net/tcp").read_text().splitlines()[1:]]
        return sum(
            int(there.partition(":")[2], 16) == port and f"socket:[{inode}]" in ours
            for _, _, there, _, _, _, _, _, _, inode, *_ in rows
        )

    def kill(self) -> None:
        """SIGKILL: nothing of it gets to tidy up."""
        self.process.kill()
        self.process.wait()
        self._output.close()

    def end(self) -> str:
        """SIGTERM; returns what it logged."""
        self.process.terminate()
        self.process.wait(timeout=30)
        with self._output:
            self._output.seek(0)
            return self._output.read().decode()


@contextmanager
def running(url: str, folder: Path = ROOT, /, **env: str) -> Iterator[Live]:
    live = Live(url, (), folder, **env)
    try:
        live.wait_until_it_serves()
        yield live
    finally:
        if live.process.poll() is None:
            live.end()
