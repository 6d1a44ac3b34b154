"""The form that exports the trail from the back office."""

from __future__ import annotations

import io
from datetime import datetime

from piccolo_admin.endpoints import FileResponse, FormConfig
from pydantic import BaseModel, Field
from starlette.requests import Request

from audit.apps import Services
from audit.database import Database
from audit.errors import Refused
from audit.export import Export
from audit.filters import Filters

# The file is put together in memory.
MOST_ROWS = 100_000
MOST_BYTES = 32 * 2**20


class ExportTrail(BaseModel):
    """A choice of rows; what is left empty does not matter."""

    since: datetime | None = Field(None, title="From")
    until: datetime | None = Field(None, title="Before")
    actor: str | None = Field(None, title="Who did it, as the trail names them")
    action: str | None = Field(None, title="What was done, for example users.update")
    resource: str | None = Field(None, title="To which table")
    resource_id: str | None = Field(None, title="To which row")


async def export_trail(db: Database, data: ExportTrail) -> FileResponse:
    """Return the rows as CSV; the export is recorded.

    Raises:
        Refused: they are too many.
    """
    given = {name: value or None for name, value in data.model_dump().items()}
    times = {"since": _with_zone(data.since), "until": _with_zone(data.until)}
    export = Export(db, Filters(**given | times), "csv")
    contents = io.BytesIO()
    async for chunk in export.chunks():
        contents.write(chunk)
        if export.rows > MOST_ROWS or contents.tell() > MOST_BYTES:
            most = f"more than {MOST_ROWS:,} rows or {MOST_BYTES // 2**20} MB"
            raise Refused(f"These are {most}. Choose fewer, or use piccolo audit export.")
    await export.record()
    return FileResponse(contents, "audit_trail.csv", "text/csv")


def _with_zone(moment: datetime | None) -> datetime | None:
    """Return a moment of the form, which knows no time zone and means the server's."""
    return moment.astimezone() if moment and moment.tzinfo is None else moment


def forms(services: Services) -> list[FormConfig]:
    """Return the forms about the trail."""

    async def endpoint(request: Request, data: ExportTrail) -> FileResponse:
        return await export_trail(services.db, data)

    return [
        FormConfig(
            name="Export the trail",
            pydantic_model=ExportTrail,
            endpoint=endpoint,
            description="Downloads a part of the audit trail as CSV. That is recorded, too.",
            form_group="Audit",
        )
    ]
