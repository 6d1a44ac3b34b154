"""Who acts: carried from the request, the command or the job down to the rows it changes.

The actor travels in a context variable, and from there into a setting of the transaction
(`set_config(..., true)`), where the row trigger reads it. PostgreSQL forgets it with the
transaction, so nothing is left for the next user of a pooled connection.
"""

from __future__ import annotations

import getpass
import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple

SETTING = "groundwork.actor"


class Actor(NamedTuple):
    """The person or program that the trail names.

    Args:
        name: an e-mail address, «<address> token:<name>» where a program acts for somebody, or
            «cli:<os user>», «sync:<source>», «system:<job>», «anonymous».
        user_id: of `users`, where it is a person.
        ip_address: of the client.
        request_id: at most 100 characters; the same as in the logs.
        is_admin_action: done in the back office.
    """

    name: str
    user_id: int | None = None
    ip_address: str | None = None
    request_id: str | None = None
    is_admin_action: bool = False


current: ContextVar[Actor | None] = ContextVar("actor", default=None)


def current_actor() -> Actor | None:
    """Return whoever acts now; None outside requests, commands and jobs."""
    return current.get()


@contextmanager
def acting_as(actor: Actor) -> Iterator[Actor]:
    """Attribute what happens in this block, also inside a transaction that is open already."""
    token = current.set(actor)
    try:
        yield actor
    finally:
        current.reset(token)


def identify(name: str, user_id: int) -> None:
    """Set who the current actor turned out to be; address and request stay as they are.

    It lasts as long as the context of the caller: one request.
    """
    known = current.get() or Actor(name)
    where = known.ip_address, known.request_id, known.is_admin_action  # faster than _replace
    current.set(Actor(name, user_id, *where))


def command_line_actor() -> Actor:
    """Return whoever sits at the terminal, by the operating system's name."""
    try:
        return Actor(f"cli:{getpass.getuser()}")
    except (KeyError, OSError):  # a user id without a name, as containers have them
        return Actor("cli:unknown")


def actor_json(actor: Actor) -> str:
    """Return the value of SETTING for an actor, as the row triggers read it."""
    name, *others = actor._asdict().items()
    return json.dumps(storable({"actor": name[1], **dict(others)}))


def actor_sql(actor: Actor | None) -> str:
    """Return the statement that hands an actor over for the rest of the transaction."""
    text = actor_json(actor) if actor else ""
    escaped = text.replace("\\", "\\\\").replace("'", "''")
    return f"SELECT set_config('{SETTING}', E'{escaped}', true)"


def storable(value: Any) -> Any:
    """Return a value without what PostgreSQL cannot hold: NUL, lone surrogates, not-a-number.

    A record that says nearly what was sent is better than none.
    """
    if isinstance(value, str):
        return (
            value.encode("utf-8", "surrogatepass")
            .decode("utf-8", "replace")
            .replace("\0", "\ufffd")
        )
    if isinstance(value, Mapping):
        return {storable(str(key)): storable(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [storable(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value
