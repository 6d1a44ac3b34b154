"""Jobs that deliver messages: one for each channel, so that none waits for another's receiver."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager

import asyncpg

from audit.database import Database
from audit.errors import DatabaseUnavailable, GroundworkError
from audit.jobs import Job
from audit.log import Logger
from home.outbox import store
from home.outbox.store import Outgoing
from home.services import Services

LOOK_SECONDS = 2.0
PURGE_SECONDS = 3600.0

log = Logger("groundwork.outbox")

Send = Callable[[Outgoing], Awaitable[None]]
Sending = Callable[[], AbstractAsyncContextManager[Send]]


class NotDelivered(GroundworkError):
    """A message was not delivered.

    Args:
        for_good: whether trying again would not help.
    """

    def __init__(self, message: str, *, for_good: bool = False) -> None:
        super().__init__(message)
        self.for_good = for_good


class NothingToSay(GroundworkError):
    """The message has come to nothing: its link is over, or there is no such account."""


def jobs(services: Services) -> list[Job]:
    """Return a job for each channel that is set up, and those that look for something to tell."""
    settings, found = services.settings, list[Job]()
    if settings.smtp_url is not None:
        from home.outbox.mail import Mailer

        found.append(_job(services.db, "mail", Mailer(services).sending))
    if settings.webhook_url:
        from home.outbox.webhooks import Webhooks

        found.append(_job(services.db, "webhook", Webhooks(settings).sending))
    if found:

        async def purge() -> None:
            await store.purge(services.db)

        found.append(Job("purge messages", purge, PURGE_SECONDS))
    return found


def _job(db: Database, channel: str, sending: Sending) -> Job:
    async def run() -> None:
        if not (messages := await store.claim(db, channel)):
            return
        async with sending() as send:
            while messages:
                await _deliver_all(db, send, messages)
                messages = await store.claim(db, channel)

    return Job(f"deliver {channel}", run, LOOK_SECONDS, at_once=True)


async def _deliver_all(db: Database, send: Send, messages: Sequence[Outgoing]) -> None:
    """Deliver messages at the same time; when this ends, none is under way."""
    each = (_deliver(db, send, message) for message in messages)
    done = await asyncio.gather(*each, return_exceptions=True)
    await store.sent(db, [id_ for id_ in done if isinstance(id_, int)])
    for error in done:
        if isinstance(error, BaseException):
            raise error


async def _deliver(db: Database, send: Send, message: Outgoing) -> int | None:
    """Deliver a message; return its id if it was taken."""
    try:
        await send(message)
    except NothingToSay:
        await store.drop(db, message)
    except NotDelivered as error:
        log.warning(
            "message_not_delivered", kind=message.kind, attempts=message.attempts, error=str(error)
        )
        await store.failed(db, message, str(error), for_good=error.for_good)
    except DatabaseUnavailable:
        raise
    except Exception as error:  # a mistake of ours, or of who wrote the row: others go on
        log.error("message_unusable", kind=message.kind, id=message.id, exc_info=error)
        for_good = not isinstance(error, asyncpg.PostgresError | asyncpg.InterfaceError)
        sentence = "It cannot be made; the log says why."
        await store.failed(db, message, sentence, for_good=for_good)
    else:
        return message.id
    return None
