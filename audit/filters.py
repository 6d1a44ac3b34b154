"""A choice of rows of the trail: one for the page, the API, exports and commands."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from audit.context import storable
from audit.errors import Refused

# Not `=`, by name; `$` is the parameter. A changed column is one of an update: what is inserted or
# deleted has all of them.
TESTS = {
    "since": "created_at >= $",
    "until": "created_at < $",
    "column": "action LIKE '%.update' AND details -> 'after' ? $",
}
# As they are called in addresses and forms; `person`, `from`, `to` and `last` are more than a name.
NAMES = {
    "table": "resource",
    "record": "resource_id",
    "column": "column",
    "action": "action",
    "address": "ip_address",
    "request": "request_id",
}
PARAMETERS = {
    "person": "Who did it: the number of a person, an e-mail address, or as the trail names them.",
    "table": "To which table or thing.",
    "record": "To which row of it; with a table.",
    "column": "Updates that changed this column.",
    "action": "What was done, such as users.update.",
    "address": "From which address.",
    "request": "By which request.",
    "last": "In the last so many days.",
    "from": "From this date or time on, as 2026-01-31 or 2026-01-31T12:00; UTC.",
    "to": "Up to and with this date, or before this time.",
}
LONGEST = 255
MOST_DAYS = 36_500
A_DAY = timedelta(days=1)


class WrongFilter(Refused):
    """A filter cannot be understood; the message says which and what it takes."""

    code = "invalid"


@dataclass(frozen=True)
class Filters:
    """A choice of rows; None means any.

    Args:
        since: from this moment on.
        until: before this moment.
        column: updates that changed it.
    """

    since: datetime | None = None
    until: datetime | None = None
    actor: str | None = None
    action: str | None = None
    resource: str | None = None
    resource_id: str | None = None
    user_id: int | None = None
    ip_address: str | None = None
    request_id: str | None = None
    column: str | None = None

    def given(self) -> dict[str, Any]:
        """Return those that are not None."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    def where(self, first: int) -> tuple[str, list[Any]]:
        """Return a condition whose parameters are numbered from `first`, and their values."""
        given = self.given()
        tests = [
            f"{TESTS.get(name, f'{name} = $')}{number}" for number, name in enumerate(given, first)
        ]
        return " AND ".join(tests) or "true", [storable(value) for value in given.values()]


def parse(typed: Mapping[str, str]) -> Filters:
    """Return the filters of an address or a form; what is empty does not matter.

    Args:
        typed: by the names of PARAMETERS; others are ignored.

    Raises:
        WrongFilter: one cannot be understood.
    """
    given = {name: typed.get(name, "").strip() for name in PARAMETERS}
    for name, text in given.items():
        if len(text) > LONGEST:
            raise WrongFilter(f"“{name}” takes up to {LONGEST} characters.")
    found: dict[str, Any] = {field: given[name] or None for name, field in NAMES.items()}
    if found["resource_id"] and not found["resource"]:
        raise WrongFilter("A record needs its table: choose both, or leave the record empty.")
    found |= _who(given["person"])
    found["since"] = _moment("from", given["from"])
    found["until"] = _moment("to", given["to"], end=True)
    if given["last"]:
        if found["since"] or found["until"]:
            raise WrongFilter("Choose either the last days, or dates.")
        found["since"] = datetime.now(UTC) - timedelta(days=_days(given["last"]))
    if found["since"] and found["until"] and found["since"] >= found["until"]:
        raise WrongFilter("The first date is after the last one.")
    return Filters(**found)


def _who(text: str) -> dict[str, Any]:
    if text.isascii() and text.isdigit():
        if int(text) >= 2**31:
            raise WrongFilter(f"There is no person {text[:20]}.")
        return {"user_id": int(text)}
    return {"actor": text or None}


def _days(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 0 < int(text) <= MOST_DAYS):
        raise WrongFilter(f"“{text[:20]}” is no number of days from 1 to {MOST_DAYS:,}.")
    return int(text)


def _moment(name: str, text: str, *, end: bool = False) -> datetime | None:
    """Return a moment; of a date without a time the beginning, or the end of that day."""
    if not text:
        return None
    try:
        found = datetime.fromisoformat(text)
        found = found.astimezone(UTC) if found.tzinfo else found.replace(tzinfo=UTC)
        return found + A_DAY if end and len(text) <= len("2026-01-31") else found
    except (ValueError, OverflowError):
        example = "2026-01-31 or 2026-01-31T12:00"
        raise WrongFilter(f"“{name}”: “{text[:40]}” is not a date such as {example}.") from None
