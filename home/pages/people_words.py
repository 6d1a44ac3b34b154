"""Words about somebody else's account: its status, what they did, what happened to them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple

from audit.database import Record
from home.pages import happened
from home.pages.happened import Happened

# What the owner of an account reads, and others.
VOICES = (
    ("You signed in", "Signed in"),
    ("You became", "Became"),
    ("You are no", "Is no"),
    ("your address", "this address"),
)
VERBS = {"insert": "Added", "update": "Changed", "delete": "Removed"}
THINGS = {
    "users": "account",
    "sessions": "a session",
    "user_preferences": "preferences",
    "authenticator_secrets": "a second factor",
    "sync_history": "sync run",
}
UNNUMBERED = ("sessions", "user_preferences", "authenticator_secrets")  # whose keys say nothing


class Status(NamedTuple):
    """A sentence about an account: what, since when, by whom."""

    text: str
    when: datetime | None = None
    by: str | None = None


class Did(NamedTuple):
    """Something that a person did.

    Args:
        href: the person whom it was about.
    """

    when: datetime
    what: str
    href: str | None
    columns: str
    address: str | None


def approved(row: Record) -> Status:
    """Return since when somebody may sign in, and who let them in."""
    if row["approved_at"] is None:
        return Status("Active")
    return Status("Approved", row["approved_at"], row["approver"])


def kept_out(turn: Record | None, state: str) -> Status:
    """Return since when somebody is kept out, and who decided it, as far as the trail knows."""
    text = state.capitalize()
    return Status(text) if turn is None else Status(text, turn["created_at"], actor(turn["actor"]))


def actor(name: str) -> str:
    """Return who acted: a person by their address, a sync by its source."""
    kind, _, which = name.partition(":")
    if kind == "sync" and which:
        return f"the {which}" if which == "directory" else f"the sync of {which}"
    return happened.PROGRAMS.get(kind, name) if which or kind == "anonymous" else name


def happened_to(row: Record, user_id: int) -> Happened:
    """Return what a row of the trail says about somebody to others."""
    found = happened.in_words(row, user_id)
    what = found.what
    for yours, theirs in VOICES:
        what = what.replace(yours, theirs)
    return found._replace(what=what, by=found.by and actor(row["actor"]))


def did(row: Record, user_id: int) -> Did:
    """Return what a row of the trail says that somebody did."""
    details: Any = json.loads(row["details"] or "{}")
    resource, key = row["resource"], row["resource_id"]
    _, _, verb = row["action"].rpartition(".")
    is_change = row["action"] == f"{resource}.{verb}" and verb in VERBS
    if not is_change:
        phrase = happened.PHRASES.get(row["action"])
        what = phrase if isinstance(phrase, str) else None
        for yours, theirs in VOICES:
            what = what and what.replace(yours, theirs)
        what = what or f"{row['action']} {key or ''}".strip()
        return Did(row["created_at"], what, None, "", row["ip_address"])
    is_own = resource == "users" and key == str(user_id)
    thing = "their own account" if is_own else THINGS.get(resource, resource)
    number = "" if is_own or resource in UNNUMBERED else f" {key}"
    href = f"/people/{key}" if resource == "users" and not is_own and verb != "delete" else None
    columns = _columns(details) if verb == "update" else ""
    return Did(
        row["created_at"], f"{VERBS[verb]} {thing}{number}", href, columns, row["ip_address"]
    )


def _columns(details: Any) -> str:
    after = details.get("after") if isinstance(details, Mapping) else None
    names = after if isinstance(after, Mapping) else {}
    return ", ".join(
        happened.NAMES.get(n, n.replace("_", " ")) for n in names if n not in happened.UNTOLD
    )
