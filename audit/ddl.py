"""What the migrations of all apps share: SQL from files, and a guard on the way back."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, cast

from piccolo.apps.migrations.tables import Migration
from piccolo.conf.apps import Finder

Step = Callable[[], Awaitable[None]]


class MigrationRefused(SystemExit):
    """Going backwards would break an applied app; the message holds the command that helps.

    A SystemExit, because Piccolo's command line shows its message alone and exits with 1.
    """


def sql_file(path: Path) -> Step:
    """A step for `add_raw`: runs a file of statements on the migration's own connection.

    Piccolo's `raw` takes one statement a call and treats braces as fields.
    """

    async def run() -> None:
        engine = cast(Any, Migration._meta.db)
        async with engine.transaction() as transaction:
            await transaction.connection.execute(path.read_text(encoding="utf-8"))

    return run


def refuse_while_needed(app_name: str) -> Step:
    """A step for `add_raw_backwards`: stops while an app that builds on this one is applied.

    Without it Piccolo drops the tables with CASCADE, and foreign keys of other apps vanish.

    Raises:
        MigrationRefused: with the command to run first.
    """

    async def run() -> None:
        applied = await Migration.select(Migration.app_name).output(as_list=True)
        for other in _apps_on_top_of(app_name):
            if other in applied:
                raise MigrationRefused(
                    f"{other} is applied and builds on {app_name}. "
                    f"Run this first: piccolo migrations backwards {other} --migration_id=all"
                )

    return run


def _apps_on_top_of(app_name: str) -> list[str]:
    """Names of the apps that depend on one, also through others; the topmost first."""
    configs = Finder().get_app_registry().app_configs.values()
    found: list[str] = []
    for config in sorted(configs, key=lambda each: each.app_name):
        needs = [each.app_name for each in config.migration_dependency_app_configs]
        if app_name in needs:
            found = [*_apps_on_top_of(config.app_name), config.app_name, *found]
    return list(dict.fromkeys(found))
