"""Events: what happened that is no change of a row, such as a failed sign-in or an export."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from audit.context import current_actor, storable
from audit.counts import counts
from audit.database import Database

COLUMNS = (
    "user_id",
    "actor",
    "action",
    "resource",
    "resource_id",
    "details",
    "ip_address",
    "request_id",
    "is_admin_action",
)
INSERT = f"""
    INSERT INTO audit_logs ({", ".join(COLUMNS)})
    VALUES ($1, coalesce($2, 'db:' || session_user), $3, $4, $5, $6, $7, $8, $9)
"""  # noqa: S608  constants only


@dataclass(frozen=True)
class Event:
    """Something that happened.

    Args:
        action: «<thing>.<what happened>», at most 100 characters.
        resource: the table or thing it happened to, at most 100 characters.
        resource_id: which of them, at most 255 characters.
        details: anything JSON can say. Never secrets.
    """

    action: str
    resource: str | None = None
    resource_id: str | int | None = None
    details: Mapping[str, Any] | None = None

    def row(self) -> tuple[Any, ...]:
        """Return values of COLUMNS; whoever acts now did it."""
        actor = current_actor()
        resource_id = None if self.resource_id is None else storable(str(self.resource_id))[:255]
        details = None if self.details is None else json.dumps(storable(self.details))
        return (
            actor and actor.user_id,
            actor and storable(actor.name),
            self.action,
            self.resource,
            resource_id,
            details,
            actor and actor.ip_address,
            actor and storable(actor.request_id),
            bool(actor and actor.is_admin_action),
        )


async def record(
    db: Database,
    action: str,
    resource: str | None = None,
    resource_id: str | int | None = None,
    details: Mapping[str, Any] | None = None,
) -> None:
    """Put one event on the trail, see `Event`. Joins the transaction that is open, if any."""
    event = Event(action, resource, resource_id, details)
    async with db.connection() as connection:  # a transaction of its own would be for nothing
        await connection.execute(INSERT, *event.row())
    counts.add("event", action)


async def record_many(db: Database, events: Iterable[Event]) -> None:
    """Put many events on the trail at once, by COPY; all of them or none."""
    async with db.connection() as connection:
        # COPY knows no expressions: the role is asked for before.
        role = await connection.fetchval("SELECT 'db:' || session_user")
        rows = ((row[0], row[1] or role, *row[2:]) for row in (event.row() for event in events))
        await connection.copy_records_to_table("audit_logs", records=rows, columns=COLUMNS)
