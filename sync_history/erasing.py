"""What runs say of a person, for whoever erases one: see audit.erase."""

from __future__ import annotations

from collections.abc import Sequence

from audit.database import Queries
from audit.known_person import Known, Side, in_json, literal
from home.services import Services

NAMED = """
    EXISTS (SELECT FROM unnest($1::text[]) n
            WHERE strpos(concat_ws(' ', lower(error_message), lower(attention_reason),
                                   lower(error_details::text)), n) > 0)
"""
# A name is replaced wherever it stands, in small letters as addresses are.
ERASE = f"""
    UPDATE sync_history SET
        error_message = regexp_replace(error_message, $2, $3, 'gi'),
        attention_reason = regexp_replace(attention_reason, $2, $3, 'gi'),
        error_details = regexp_replace(error_details::text, $2, $3, 'gi')::jsonb
    WHERE {NAMED}
"""  # noqa: S608  constants only

ERASE_STATES = """
    UPDATE sync_states SET state = regexp_replace(state::text, $2, $3, 'gi')::jsonb
    WHERE EXISTS (SELECT FROM unnest($1::text[]) n WHERE strpos(lower(state::text), n) > 0)
"""
ERASE_LINES = """
    UPDATE sync_log_lines SET text = regexp_replace(text, $2, $3, 'gi')
    WHERE EXISTS (SELECT FROM unnest($1::text[]) n WHERE strpos(lower(text), n) > 0)
"""


class RunEraser:
    """Puts a pseudonym where runs name somebody: in errors, logs, and what sources keep."""

    async def known(self, db: Queries, person: int, archived: Sequence[Side]) -> Known:
        """Return nothing of its own: it goes by the names that others know."""
        return Known()

    async def erase(self, db: Queries, person: int, known: Known, pseudonym: str) -> None:
        """Replace addresses, and what a run is about to change."""
        names = sorted(known.names)
        expression = "|".join(literal(in_json(name)) for name in names)
        for sql in (ERASE, ERASE_STATES, ERASE_LINES):
            await db.execute(sql, names, expression, pseudonym)
        await db.execute(
            "DELETE FROM directory_changes WHERE user_id = $1 OR email = any($2)", person, names
        )


def erasers(services: Services) -> list[RunEraser]:
    """Return what erases people from runs."""
    return [RunEraser()]
