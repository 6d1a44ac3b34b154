"""People in the trail: what rows about accounts say, and whom a filter means."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from audit.database import Queries
from audit.filters import Filters, parse
from audit.ids import id_of
from audit.sentences import Words

NAMES = """
    SELECT id::text AS key,
           email || coalesce(' (' || nullif(left(display_name, 40), '') || ')', '') AS name
    FROM users WHERE id = any($1::text[]::integer[])
"""
BY_EMAIL = "SELECT id FROM users WHERE email = lower($1)"


async def names(db: Queries, keys: Sequence[str]) -> Mapping[str, str]:
    """Return what people are called, by the keys of their rows; who is not in yet is an address.

    The address comes first: everybody chooses their name, also that of somebody else.
    """
    ids = [key for key in keys if id_of(key, 2**31 - 1) is not None]
    found = {row["key"]: row["name"] for row in await db.fetch(NAMES, ids)}
    return await addresses(db, keys) | found


async def addresses(db: Queries, keys: Sequence[str]) -> dict[str, str]:
    """Return those keys that are e-mail addresses, as their own names."""
    return {key: key for key in keys if "@" in key}


async def filters_of(db: Queries, typed: Mapping[str, str]) -> Filters:
    """Return the filters of an address; an e-mail address is that of a person, if there is one.

    The trail names people as they were called then. Their number finds what they did under an older
    address, too.

    Raises:
        audit.filters.WrongFilter: one cannot be understood.
    """
    filters = parse(typed)
    if filters.actor is not None and "@" in filters.actor:
        person = await db.fetchval(BY_EMAIL, filters.actor.replace("\0", ""))
        if person is not None:
            return replace(filters, actor=None, user_id=person)
    return filters


WORDS = Words(
    phrases={
        "users.insert": "added {}",
        "users.is_approved": ("approved {}", "took back the approval of {}"),
        "users.is_disabled": ("disabled {}", "enabled {}"),
        "users.is_admin": ("made {} an administrator", "made {} no administrator any more"),
        "users.is_superuser": ("made {} a superuser", "made {} no superuser any more"),
        "users.is_auditor": ("made {} an auditor", "made {} no auditor any more"),
        "users.password_hash": "changed the password of {}",
        "users.is_service": "",
        "users.approved_at": "",
        "users.approved_by": "",
        "users.role": "",
        "sign_in.succeeded": "signed in",
        "sign_in.failed": "failed to sign in as {}",
        "sign_in.throttled": "had to wait after too many attempts to sign in",
        "sign_in.failed.network": "",
        "sign_in.throttled.network": "",
        "register.requested.network": "",
        "sign_out": "signed out",
        "register.requested": "asked for an account for {}",
        "register.repeated": "asked again for an account for {}",
        "identity.refused": "came from {} and was not let in",
        "identity.refused.network": "",
        "identities.insert": "linked an identity",
        "identities.delete": "unlinked an identity",
        "identities.user_id": "",
        "link.used": "followed a link",
        "link.refused": "followed a link that opens nothing",
        "link.refused.network": "",
        "password.requested": "asked for a link to {}, whose password is forgotten",
        "password.requested.network": "",
        "one_time_links.insert": "made a link",
        "one_time_links.update": "used a link up",
        "one_time_links.delete": "ended a link",
        "restore.drilled": "tried to restore {}",
        "outbox.again": "had a message sent again",
        "token.refused": "came with a token that was refused",
        "token.refused.network": "",
        "api_tokens.insert": "made a token for a program",
        "api_tokens.delete": "ended a token of a program",
        "api_tokens.digest": "",
        "api_tokens.user_id": "",
        "sessions.insert": "began a session",
        "sessions.delete": "ended a session",
        "user_preferences.update": "changed preferences ({})",
        "user_preferences.insert": "stored preferences ({})",
    },
    links={"users": "/people/{}"},
    names={"users": names, "sign_in": addresses, "register": addresses},
)
