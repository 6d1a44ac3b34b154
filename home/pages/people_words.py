"""Words about somebody else's account: its status, what they did, what happened to them."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

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


class Status(NamedTuple):
    """A sentence about an account: what, since when, by whom."""

    text: str
    when: datetime | None = None
    by: str | None = None


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
