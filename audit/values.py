"""What the page of the trail says beside its rows: values to filter by, changes of a request."""

from __future__ import annotations

from typing import Literal

from audit.database import Queries

MOST_OF_A_REQUEST = 100
OF_REQUESTS = f"""
    SELECT given.request_id, (
        SELECT count(*) FROM (
            SELECT FROM audit_logs WHERE request_id = given.request_id LIMIT {MOST_OF_A_REQUEST + 1}
        ) AS rows
    ) AS changes
    FROM unnest($1::text[]) AS given (request_id)
"""  # noqa: S608  constants only
# From one value to the next along an index, which passes over the rows between.
DIFFERENT = """
    WITH RECURSIVE found AS (
        (SELECT {column} AS value FROM audit_logs WHERE {column} IS NOT NULL
         ORDER BY {column} LIMIT 1)
        UNION ALL
        SELECT (SELECT {column} FROM audit_logs WHERE {column} > found.value
                ORDER BY {column} LIMIT 1)
        FROM found WHERE found.value IS NOT NULL
    )
    SELECT value FROM found WHERE value IS NOT NULL LIMIT 200
"""


async def of_requests(db: Queries, requests: list[str]) -> dict[str, int]:
    """Return how many rows each of these requests left; 101 means more than 100."""
    rows = await db.fetch(OF_REQUESTS, requests) if requests else []
    return {row["request_id"]: row["changes"] for row in rows}


async def known(db: Queries, column: Literal["action", "resource"]) -> list[str]:
    """Return the values that a column has, at most 200, but for those that nobody can type."""
    rows = await db.fetch(DIFFERENT.format(column=column))
    return [row["value"] for row in rows if row["value"].isprintable()]
