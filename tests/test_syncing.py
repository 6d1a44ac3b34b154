"""The worked example of docs/syncing.md, step by step, in a copy of the checkout."""

from __future__ import annotations

from pathlib import Path

import pytest

from home.database.engine import Engine
from home.tables import User
from sync_history.tables import SyncRun
from tests.conftest import ROOT
from tests.test_building import Newcomer, blocks

pytestmark = pytest.mark.any_version


async def test_the_worked_example(url: str, db: Engine, tmp_path: Path) -> None:
    newcomer = Newcomer(tmp_path, url)
    for language, text in blocks(ROOT / "docs" / "syncing.md"):
        newcomer.follow(language, text)
    first, second, third = await SyncRun.objects().order_by(SyncRun.id)
    assert (first.status, first.dry_run, first.items_synced) == ("succeeded", True, 0)
    assert (second.status, second.dry_run, second.items_synced) == ("succeeded", False, 2)
    assert (third.source, third.status, third.items_synced) == ("names", "succeeded", 2)
    shown, went_on, _ = newcomer.said
    assert '{"page": 2}\n{}\n' in went_on
    assert await User.count().where(User.display_name == "Mel B.") == 1
    assert "mel@example.com would belong to ACME\n" in shown
    assert "\tcompanies\tsucceeded\t" in shown
    assert await User.count().where(User.organization == "Initech") == 1
