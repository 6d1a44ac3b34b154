"""Processes that are started here are stopped here, each by its pid, also on Ctrl-C."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.tools import BenchmarkError, environment

START_SECONDS = 30.0
STOP_SECONDS = 10.0


def free_port() -> int:
    """A port of the loopback address that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@contextmanager
def running(
    command: Sequence[str], log: Path, stop_with: int = signal.SIGTERM, **options: Any
) -> Iterator[subprocess.Popen[bytes]]:
    """A process for the length of a block.

    Args:
        log: takes its output; `failure` quotes it.
        stop_with: the signal that asks it to end; what remains after 10 s is killed.
        options: more arguments of `subprocess.Popen`.
    """
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
            start_new_session=True,  # Ctrl-C is for us: we stop it
            **options,
        )  # fmt: skip
    try:
        yield process
    finally:
        stop(process, stop_with)


def stop(process: subprocess.Popen[bytes], signal_number: int) -> None:
    """Ask a process to end, wait, and kill it with its children if it does not."""
    if process.poll() is not None:
        return
    process.send_signal(signal_number)
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        pass
    finally:
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGKILL)  # it leads a group of its own
            process.wait()


def failure(what: str, log: Path) -> BenchmarkError:
    """The error to raise for a program that failed, with the end of what it said."""
    said = log.read_text(errors="replace").strip().splitlines()[-15:]
    return BenchmarkError("\n  ".join([f"{what}; it said:", *said]))


@dataclass(frozen=True)
class Program:
    """A server to measure: how its own users would start it. It reads its port from `PORT`."""

    name: str
    command: Sequence[str]
    folder: Path
    variables: dict[str, str] = field(default_factory=dict)
    port: int = field(default_factory=free_port)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/api/health"

    def answer(self) -> dict[str, Any]:
        """What it says of its health."""
        with urllib.request.urlopen(self.url, timeout=5) as response:
            return json.load(response)

    @contextmanager
    def started(self, logs: Path) -> Iterator[float]:
        """Serve for the length of a block.

        Returns:
            The seconds from the start of the process to its first 200.
        """
        log = logs / f"{self.name.replace(' ', '_')}.log"
        port = str(self.port)
        command = [port if part == "$PORT" else part for part in self.command]
        variables = environment(PORT=port, LISTEN_PORT=port, **self.variables)
        began = time.perf_counter()
        with running(command, log, cwd=self.folder, env=variables) as process:
            while (status := self._status()) != 200:
                if process.poll() is not None:
                    raise failure(f"{self.name} ended instead of serving", log)
                if time.perf_counter() - began > START_SECONDS:
                    raise failure(f"{self.name} does not serve (status {status})", log)
                time.sleep(0.002)
            yield time.perf_counter() - began

    def _status(self) -> int | None:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("GET", "/api/health")
            return connection.getresponse().status
        except (OSError, http.client.HTTPException):
            return None
        finally:
            connection.close()


def timed(command: Sequence[str], folder: Path, log: Path, **variables: str) -> float:
    """Run a command to its end.

    Returns:
        The seconds it took, from the start of the process to its end.

    Raises:
        BenchmarkError: it failed.
    """
    began = time.perf_counter()
    with running(command, log, cwd=folder, env=environment(**variables)) as process:
        code = process.wait()
        took = time.perf_counter() - began
    if code:
        raise failure(f"{' '.join(command[:3])} exited with {code}", log)
    return took
