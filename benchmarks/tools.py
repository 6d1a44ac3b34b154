"""Programs of the machine: where they are, or how to get them."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PEERS = Path(__file__).resolve().parent / "peers"
# Whatever the benchmarks install or write; git ignores it.
BENCH = ROOT / ".bench"

INSTALL = {
    "wrk": "apt-get install wrk",
    "node": "apt-get install nodejs npm",
    "npm": "apt-get install nodejs npm",
    "postgres": "apt-get install postgresql-15",
}


class BenchmarkError(Exception):
    """A benchmark that cannot be run; the message says what happened and what to do."""


def find(tool: str) -> str:
    """The path of a program.

    Raises:
        BenchmarkError: it is not installed; the message is the command that installs it.
    """
    found = shutil.which(tool)
    if found is None:
        raise missing(tool)
    return found


def missing(tool: str) -> BenchmarkError:
    """The error to raise for a program that is not there."""
    return BenchmarkError(f"{tool} is not installed; to run this benchmark: {INSTALL[tool]}")


def environment(**variables: str) -> dict[str, str]:
    """A program's whole environment: nothing of the caller's settings leaks into it."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    return kept | variables
