"""What the trail says about one account: sign-ins, and changes of its record."""

from __future__ import annotations

from audit.database import Database, Record

NEWEST = 20

# Under its address an account is known by those who are not in yet. Whose address it was before
# the account was made, or who else signed in by it, is nobody's business.
_PARTS = (
    "resource = 'users' AND resource_id = $1::integer::text",
    "resource = 'register' AND resource_id = $2 AND {here}",
    "resource = 'sign_in' AND resource_id = $2 AND {here} AND (user_id IS NULL OR user_id = $1)",
)
_HERE = "created_at >= (SELECT created_at - interval '1 minute' FROM users WHERE id = $1)"


def condition(limit: int | None = None) -> str:
    """Return which rows of the trail are about an account; $1 is its id, $2 its address.

    Args:
        limit: how many at most, the newest; each index is read from its end, and no further.
    """
    newest = "" if limit is None else f"ORDER BY id DESC LIMIT {limit}"
    parts = [
        f"(SELECT id FROM audit_logs WHERE {part.format(here=_HERE)} {newest})"  # noqa: S608
        for part in _PARTS
    ]
    return f"id IN ({' UNION ALL '.join(parts)})"


NEWEST_ROWS = f"""
    SELECT created_at, actor, user_id, action, resource, resource_id, ip_address,
           details::text AS details
    FROM audit_logs WHERE {condition(NEWEST)} ORDER BY id DESC LIMIT {NEWEST}
"""  # noqa: S608  constants only


async def newest(db: Database, user_id: int, email: str) -> list[Record]:
    """Return the 20 newest rows of the trail about an account, the newest first."""
    return await db.fetch(NEWEST_ROWS, user_id, email)
