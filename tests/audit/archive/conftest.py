"""An archive in a folder, and a trail to move there."""

from __future__ import annotations

from pathlib import Path

import pytest

from audit.archive.reading import Archive
from home.database.engine import Engine


@pytest.fixture
def archive(db: Engine, tmp_path: Path) -> Archive:
    return Archive(db, str(tmp_path / "archive"))
