"""How sync runs appear in the back office, and the forms that start and cancel them."""

from __future__ import annotations

from functools import partial

from piccolo_admin.endpoints import FormConfig, TableConfig
from piccolo_api.crud.endpoints import OrderBy
from pydantic import BaseModel, Field
from starlette.requests import Request

from audit.admin import read_only
from home.services import Services
from sync_history import runner, runs
from sync_history.directory.tables import DirectoryPerson
from sync_history.sources import sources
from sync_history.tables import Status, SyncRun


class StartForm(BaseModel):
    source: str = Field(max_length=100, description="Its name")
    dry_run: bool = Field(default=False, description="Only say what it would do")
    force: bool = Field(default=False, description="Override the source's own safety limits")


class CancelForm(BaseModel):
    run: int = Field(description="The run's number, as in the list of sync runs")


async def start(services: Services, request: Request, form: StartForm) -> str:
    """Start a sync, and say where to watch it."""
    options = {"dry_run": form.dry_run, "force": form.force}
    started = await runner.begin(services, form.source.strip(), **options)
    return f"Run {started.id} of {started.source.name} has begun: see the list of sync runs."


async def cancel(services: Services, request: Request, form: CancelForm) -> str:
    """Cancel a run, which stops within two seconds."""
    run = await runs.cancel(services.db, form.run)
    what = "not tried again" if run.status == Status.FAILED else "cancelled"
    return f"Run {run.id} of {run.source} is {what}."


def forms(services: Services) -> list[FormConfig]:
    """Return the forms of the group Sync; they name the sources, since they have no lists."""
    names = ", ".join(sources()) or "none, see SYNC_SOURCES"
    return [
        FormConfig(
            "Start a sync",
            StartForm,
            partial(start, services),
            f"Runs a source now. Sources: {names}.",
            "Sync",
        ),
        FormConfig(
            "Cancel a run",
            CancelForm,
            partial(cancel, services),
            "Ends it. What it has done stays. One that failed is not tried again.",
            "Sync",
        ),
    ]


def tables(services: Services) -> list[TableConfig]:
    """Return the table configurations of the group Sync."""
    return [
        TableConfig(
            SyncRun,
            menu_group="Sync",
            visible_columns=[
                SyncRun.id,
                SyncRun.source,
                SyncRun.status,
                SyncRun.needs_attention,
                SyncRun.started_at,
                SyncRun.duration_ms,
                SyncRun.items_total,
                SyncRun.items_synced,
                SyncRun.items_failed,
                SyncRun.triggered_by,
            ],
            visible_filters=[
                SyncRun.source,
                SyncRun.status,
                SyncRun.needs_attention,
                SyncRun.trigger_type,
                SyncRun.triggered_by,
                SyncRun.dry_run,
                SyncRun.started_at,
                SyncRun.error_message,
            ],
            order_by=[OrderBy(SyncRun.id, ascending=False)],
            validators=read_only("Runs record what happened; they cannot be changed."),
        ),
        TableConfig(
            DirectoryPerson,
            menu_group="Sync",
            validators=read_only("The directory says who is in it."),
        ),
    ]
