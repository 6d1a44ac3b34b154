"""`piccolo audit evidence`: for those who verify the trail by other means."""

from __future__ import annotations

from pathlib import Path

from audit.apps import Services
from audit.archived import archive_of
from audit.cli import command
from audit.evidence import write_evidence
from audit.progress import progress

SEALED = "SELECT coalesce(sum(row_count), 0)::bigint FROM audit_seals WHERE pruned_at IS NULL"


@command
async def evidence(services: Services, output: str) -> None:
    """Write all that is sealed, with what proves it, as files of JSON lines. Whoever has them can
    verify the trail with docs/verify_trail.py, or with a program of their own: docs/seal-format.md
    has the rules. That it was written is put on the trail.

    :param output: a folder, which is made; nothing in it is overwritten

    """
    rows = await services.db.fetchval(SEALED)
    with progress("writing", rows) as advance:
        written = await write_evidence(services.db, Path(output), advance, archive_of(services))
    print(f"wrote {written} rows, their seals and removals into {output}")
