"""Rows of the trail about an account, in words."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any, NamedTuple

from audit.database import Record

EVENTS = {
    "sign_in.succeeded": "You signed in",
    "sign_in.throttled": "Sign-ins had to wait after too many failures",
    "register.requested": "An account was asked for",
    "register.repeated": "Somebody asked for an account with your address again",
    "users.insert": "The account was made",
}
FAILURES = {
    "awaiting_approval": "A sign-in was refused: the account waited for approval",
    "account_disabled": "A sign-in was refused: the account was disabled",
    "code": "A sign-in failed: wrong code",
}
# What it means when a column becomes true, or false.
TURNS = {
    "is_approved": ("The account was approved", "The approval was taken back"),
    "is_disabled": ("The account was disabled", "The account was enabled"),
    "is_admin": ("You became an administrator", "You are no administrator any more"),
    "is_superuser": ("You became a superuser", "You are no superuser any more"),
    "is_auditor": ("You became an auditor", "You are no auditor any more"),
}
NAMES = {"display_name": "name", "email": "e-mail address", "clerk_id": "identity at a provider"}
UNTOLD = {"approved_at", "approved_by"}  # told by is_approved
GENERATED = {"role"}  # follows is_admin
# What acts without being a person who is signed in, by the part before the colon.
PROGRAMS = {
    "anonymous": "somebody who was not signed in",
    "cli": "an administrator at a terminal",
    "db": "an administrator of the database",
    "sync": "a sync",
    "system": "the application itself",
}


class Change(NamedTuple):
    """A column before and after."""

    name: str
    before: str
    after: str


class Happened(NamedTuple):
    """Something that happened to an account.

    Args:
        by: who did it, if it was not the person.
    """

    when: datetime
    what: str
    changes: list[Change]
    by: str | None
    address: str | None


def in_words(row: Record, user_id: int) -> Happened:
    """Return what a row of the trail says to the person whom it is about."""
    details = json.loads(row["details"] or "{}")
    action, changes = row["action"], list[Change]()
    if action == "users.update":
        what, changes = _changed(details)
    elif action == "sign_in.failed":
        reason = details.get("reason") or details.get("factor")
        what = FAILURES.get(reason, "A sign-in failed: wrong password")
    else:
        what = EVENTS.get(action, action)
    is_told = action.startswith("users.") and row["user_id"] != user_id
    by = PROGRAMS.get(row["actor"].partition(":")[0], row["actor"]) if is_told else None
    return Happened(row["created_at"], what, changes, by, row["ip_address"])


def _changed(details: dict[str, Any]) -> tuple[str, list[Change]]:
    before, after = details.get("before") or {}, details.get("after") or {}
    said, changes = list[str](), list[Change]()
    for name, value in after.items():
        if name in TURNS and isinstance(value, bool):
            said.append(TURNS[name][not value])
        elif name == "password_hash":
            said.append("The password was changed")
        elif name not in UNTOLD | GENERATED:
            label = NAMES.get(name, name.replace("_", " "))
            changes.append(Change(label, _value(before.get(name)), _value(value)))
    return "; ".join(said) or "Changed", changes


def _value(value: Any) -> str:
    return "—" if value is None else value if isinstance(value, str) else json.dumps(value)
