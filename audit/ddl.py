"""What the migrations of all apps share: SQL from files, steps after the tables, order of apps."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import cast

from piccolo.apps.migrations.auto.migration_manager import MigrationManager
from piccolo.apps.migrations.commands.base import BaseMigrationManager
from piccolo.apps.migrations.tables import Migration
from piccolo.conf.apps import AppConfig

from audit.concurrent import ConcurrentStep, NotConcurrent
from audit.database import Database

Step = Callable[[], Awaitable[None]]


class MigrationRefused(SystemExit):
    """A migration would break an app; nothing was changed. The message has the command to run.

    A SystemExit, because Piccolo's command line shows its message alone and exits with 1.
    """


@dataclass
class AppMigration(MigrationManager):
    """A migration whose tables may be followed by raw steps, and which keeps the order of apps.

    Piccolo runs the steps of `add_raw` before it makes the tables of the same migration. Going
    backwards needs nothing of the kind: Piccolo runs `add_raw_backwards` before it drops them.

    Raises (`run`):
        MigrationRefused: forwards, an app below is not applied; backwards, an app above still is.
        NotConcurrent: it has concurrent steps and others.
    """

    raw_after_tables: list[Step] = field(default_factory=list)
    concurrent: list[ConcurrentStep] = field(default_factory=list)

    def add_raw_after_tables(self, *steps: Step) -> None:
        """Add steps that run, in this order, once the tables are there."""
        self.raw_after_tables += steps

    def add_concurrent(self, *statements: str) -> None:
        """Add statements that run in this order, each outside of a transaction and beside reads and
        writes, and again where they were killed; a migration has these or other steps.

        Args:
            statements: CREATE INDEX CONCURRENTLY name ON ..., DROP INDEX CONCURRENTLY IF EXISTS
                ..., or ALTER TABLE ... VALIDATE CONSTRAINT ...; going backwards drops the indexes.

        Raises:
            NotConcurrent: it is another statement.
        """
        self.concurrent += [ConcurrentStep(each) for each in statements]

    async def run(self, backwards: bool = False) -> None:
        if self.preview:  # shows the SQL of the tables, as Piccolo does
            await super().run(backwards)
            return
        if self.concurrent and not backwards and not await _is_in_transaction():
            await self.run_concurrent()
            return
        async with database().transaction():  # Piccolo's becomes a part of it
            await (_refuse_under_others if backwards else _refuse_before_others)(self.app_name)
            await super().run(backwards)
            if not backwards:
                for step in self.raw_after_tables:
                    await step()
            await self._run_alone(backwards)

    async def run_concurrent(self, before: Callable[[ConcurrentStep], None] | None = None) -> None:
        """Run the concurrent steps, which have to be all there is.

        Args:
            before: is told each step before it runs.
        """
        empty = AppMigration(self.migration_id, self.app_name, self.description)
        if replace(self, concurrent=[], raw_backwards=[]) != empty:
            raise NotConcurrent(
                f"{self.migration_id} has concurrent steps and others, which would be run twice "
                "after a kill: make two migrations of it"
            )
        await _refuse_before_others(self.app_name)
        async with database().unhurried() as connection:
            for step in self.concurrent:
                if before is not None:
                    before(step)
                await step.run(connection)

    async def _run_alone(self, backwards: bool) -> None:
        """Run the concurrent steps in a transaction: backwards, and in a schema nobody uses yet."""
        async with database().connection() as connection:
            for step in reversed(self.concurrent) if backwards else self.concurrent:
                statement = step.backwards if backwards else step.in_a_transaction
                if statement is not None:
                    await connection.execute(statement)


async def _is_in_transaction() -> bool:
    async with database().connection() as connection:
        return connection.is_in_transaction()


def database() -> Database:
    """Return the database that is migrated: Piccolo hands it to no step."""
    return cast(Database, Migration._meta.db)


def sql_file(path: Path) -> Step:
    """Return a step that runs a file of statements on the migration's own connection.

    Piccolo's `raw` takes one statement a call and treats braces as fields.
    """

    async def run() -> None:
        async with database().connection() as connection:
            await connection.execute(path.read_text(encoding="utf-8"))

    return run


async def _refuse_before_others(app_name: str) -> None:
    """Raise MigrationRefused unless each app that this one builds on is applied as a whole."""
    finder = BaseMigrationManager()
    applied = set(await Migration.select(Migration.name).output(as_list=True))
    for below in _apps_below(finder.get_app_config(app_name)):
        ids = finder.get_migration_modules(below.resolved_migrations_folder_path)
        if not applied.issuperset(ids):
            raise MigrationRefused(
                f"{app_name} builds on {below.app_name}, which is not applied. "
                f"Run this first: piccolo migrations forwards {below.app_name}"
            )


async def _refuse_under_others(app_name: str) -> None:
    """Raise MigrationRefused while an app that builds on this one is applied.

    Without it Piccolo drops the tables with CASCADE, and foreign keys of other apps vanish.
    """
    applied = await Migration.select(Migration.app_name).output(as_list=True)
    for other in reversed(BaseMigrationManager().get_app_configs()):  # the topmost first
        builds_on = [below.app_name for below in _apps_below(other)]
        if app_name in builds_on and other.app_name in applied:
            raise MigrationRefused(
                f"{other.app_name} is applied and builds on {app_name}. Run this first: "
                f"piccolo migrations backwards {other.app_name} --migration_id=all"
            )


def _apps_below(config: AppConfig) -> list[AppConfig]:
    """Return the apps that one depends on, also through others; the lowest first."""
    found: list[AppConfig] = []
    for below in config.migration_dependency_app_configs:
        found += [*_apps_below(below), below]
    return found
