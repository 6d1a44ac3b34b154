"""What accounts know of a person, for whoever erases one: see audit.erase."""

from __future__ import annotations

from audit.database import Queries
from audit.known_person import Known
from home.services import Services

# As the account is, and as the trail says that it was: it may be gone already.
NAMES = """
    SELECT email AS name, display_name AS text, clerk_id AS other FROM users WHERE id = $1
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

    async def known(self, db: Queries, person: int) -> Known:
        """Return addresses and names of a person, also former ones."""
        found = Known()
        for row in await db.fetch(NAMES, person):
            found.names |= {row["name"]} - {None}
            found.texts |= {row["text"], row["other"]} - {None}
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
