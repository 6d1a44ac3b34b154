"""Directories as tests write them, and a run that writes down what a source reports."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import piccolo_conf
from audit.context import Actor, acting_as
from home.services import Services
from sync_history.directory.source import directory

ADA = {"email": "ada@example.com", "display_name": "Ada", "organization": "Engines"}
BEA = {"email": "bea@example.com", "display_name": "Bea", "organization": "Engines"}
CY = {"email": "cy@example.com", "display_name": "Cy", "organization": "Looms"}


class Report:
    """Stands for a run of the runner."""

    source = "directory"
    cancelled = False

    @property
    def services(self) -> Services:
        return Services.of(piccolo_conf.DB)

    def __init__(self, id: int = 1, *, dry_run: bool = False, force: bool = False) -> None:
        self.id = id
        self.dry_run = dry_run
        self.force = force
        self.items: int | None = None
        self.done = 0
        self.steps = 0
        self.failures: dict[str, str] = {}
        self.notes: list[str] = []

    def total(self, n: int) -> None:
        self.items = n

    def synced(self, n: int = 1) -> None:
        self.done += n
        self.steps += 1

    def failed(self, item: str, error: str | Exception) -> None:
        self.failures[item] = str(error)

    def note(self, text: str) -> None:
        self.notes.append(text)


def set_directory(address: str | Path | None, **settings: Any) -> None:
    """Let DIRECTORY_URL name a file or an address."""
    db = piccolo_conf.DB
    changed = {"directory_url": address and str(address), "directory_max_disable": 100, **settings}
    db.settings = db.settings.model_copy(update=changed)


async def run_directory(report: Report | None = None) -> Report:
    """Run the source, as the runner would."""
    report = report or Report()
    with acting_as(Actor("sync:directory")):
        await directory(cast(Any, report))
    return report


def write_json(path: Path, *people: Mapping[str, object]) -> Path:
    path.write_text(json.dumps(people), encoding="utf-8")
    return path


async def sync(path: Path, *people: Mapping[str, object], **options: Any) -> Report:
    """Write a directory of these people, and run the source."""
    set_directory(write_json(path / "people.json", *people))
    return await run_directory(Report(**options))
