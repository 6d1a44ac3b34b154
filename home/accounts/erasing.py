"""What accounts know of a person, for whoever erases one: see audit.erase."""

from __future__ import annotations

from collections.abc import Sequence

from audit.database import Queries
from audit.known_person import Known, Side
from home.services import Services

# As the account is, and as the trail says that it was: it may be gone already.
NAMES = """
    SELECT email, display_name, clerk_id FROM users WHERE id = $1
    UNION
    SELECT side.row ->> 'email', side.row ->> 'display_name', side.row ->> 'clerk_id'
    FROM audit_logs, LATERAL (VALUES (details -> 'before'), (details -> 'after')) AS side (row)
    WHERE resource = 'users' AND resource_id = $1::text AND jsonb_typeof(side.row) = 'object'
    UNION
    SELECT NULL, email, subject FROM identities WHERE user_id = $1
    UNION
    SELECT email, NULL, NULL FROM one_time_links WHERE user_id = $1
"""
# Tables whose rows go with the account.
OWN = """
    SELECT relname::text AS name, attname::text AS key
    FROM pg_constraint
    JOIN pg_class ON pg_class.oid = conrelid
    JOIN pg_attribute ON attrelid = conrelid AND attnum = conkey[1]
    WHERE confrelid = 'users'::regclass AND contype = 'f' AND confdeltype = 'c'
      AND cardinality(conkey) = 1
"""
MESSAGES = (
    "recipient = any($1) OR EXISTS (SELECT FROM unnest($1) n WHERE strpos(content::text, n) > 0)"
)


class AccountEraser:
    """Removes the account, what goes with it, and messages to it or about it."""

    async def known(self, db: Queries, person: int, archived: Sequence[Side]) -> Known:
        """Return addresses and names of a person, also former ones."""
        found = Known()
        rows: list[Side] = [
            *(dict(row) for row in await db.fetch(NAMES, person)),
            *archived,
        ]
        for row in rows:
            found.names |= {str(row["email"])} if row.get("email") else set()
            texts = (row.get("display_name"), row.get("clerk_id"))
            found.texts |= {str(text) for text in texts if text}
        for own in await db.fetch(OWN):
            found.tables.add(own["name"])
            count = f'SELECT count(*) FROM "{own["name"]}" WHERE "{own["key"]}" = $1'  # noqa: S608
            found.rows[own["name"]] = await db.fetchval(count, person)
        found.rows["users"] = await db.fetchval("SELECT count(*) FROM users WHERE id = $1", person)
        messages = f"SELECT count(*) FROM outbox WHERE {MESSAGES}"  # noqa: S608  constants only
        found.rows["outbox"] = await db.fetchval(messages, sorted(found.names))
        return found

    async def erase(self, db: Queries, person: int, known: Known, pseudonym: str) -> None:
        """Remove all of it."""
        messages = f"DELETE FROM outbox WHERE {MESSAGES}"  # noqa: S608  constants only
        await db.execute(messages, sorted(known.names))
        await db.execute("DELETE FROM users WHERE id = $1", person)


def erasers(services: Services) -> list[AccountEraser]:
    """Return what erases accounts."""
    return [AccountEraser()]
