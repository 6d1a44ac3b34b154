"""Rows of the trail about an account, in words."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

from audit.database import Record
from audit.sentences import ACTIONS, Change, Phrase, details_of, tell

# What rows say to the person whom they are about.
PHRASES: dict[str, Phrase] = {
    "sign_in.succeeded": "You signed in",
    "sign_in.throttled": "Sign-ins had to wait after too many failures",
    "register.requested": "An account was asked for",
    "register.repeated": "Somebody asked for an account with your address again",
    "users.insert": "The account was made",
    "users.is_approved": ("The account was approved", "The approval was taken back"),
    "users.is_disabled": ("The account was disabled", "The account was enabled"),
    "users.is_admin": ("You became an administrator", "You are no administrator any more"),
    "users.is_superuser": ("You became a superuser", "You are no superuser any more"),
    "users.is_auditor": ("You became an auditor", "You are no auditor any more"),
    "users.password_hash": "The password was changed",
    "users.approved_at": "",
    "users.approved_by": "",
    "users.role": "",
}
FAILURES = {
    "awaiting_approval": "A sign-in was refused: the account waited for approval",
    "account_disabled": "A sign-in was refused: the account was disabled",
    "code": "A sign-in failed: wrong code",
}
NAMES = {"display_name": "name", "email": "e-mail address", "clerk_id": "identity at a provider"}
# What acts without being a person who is signed in, by the part before the colon.
PROGRAMS = {
    "anonymous": "somebody who was not signed in",
    "cli": "an administrator at a terminal",
    "db": "an administrator of the database",
    "provider": "the identity provider",
    "sync": "a sync",
    "system": "the application itself",
}


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
    action, changes = row["action"], list[Change]()
    if action == "users.update":
        told = tell(row, PHRASES)
        what = "; ".join(told.clauses) if told.clauses != [ACTIONS["update"]] else "Changed"
        changes = [
            change._replace(name=NAMES.get(change.name, change.name.replace("_", " ")))
            for change in told.changes
            if not change.is_told
        ]
    elif action == "sign_in.failed":
        details = details_of(row) or {}
        reason = details.get("reason") or details.get("factor")
        what = FAILURES.get(str(reason), "A sign-in failed: wrong password")
    else:
        what = str(PHRASES.get(action, action))
    is_told = action.startswith("users.") and row["user_id"] != user_id
    by = PROGRAMS.get(row["actor"].partition(":")[0], row["actor"]) if is_told else None
    return Happened(row["created_at"], what, changes, by, row["ip_address"])
