"""What each benchmark is given."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.postgres import Server


@dataclass(frozen=True)
class Bench:
    """The database, a folder for logs, how long a round is, and how to tell what goes on now."""

    server: Server
    logs: Path
    seconds: float
    say: Callable[[str], None]
    note: Callable[[str], None]
