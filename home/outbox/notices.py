"""Notices: what administrators, or the person it is about, should hear of without looking.

They are looked for in what is committed, so that none is missed whichever way something came about,
and none is told of what was rolled back. Each is told once, since its matter is unique.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple, TypeAlias

from audit.context import Actor, acting_as
from audit.database import Database
from audit.jobs import Job
from home.outbox import store
from home.services import Services

LOOK_SECONDS = 15.0
IS_TOLD = "SELECT EXISTS (SELECT FROM outbox WHERE matter = $1)"
ADMINISTRATORS = """
    SELECT email FROM users
    WHERE is_admin AND is_approved AND NOT is_disabled AND NOT is_service ORDER BY id LIMIT 100
"""


class Notice(NamedTuple):
    """Something to tell.

    Args:
        kind: for receivers of webhooks, such as `people.waiting`.
        matter: what it is about, at most 200 characters; it is told once.
        title: in a few words.
        text: in a sentence or two.
        path: the page about it.
        to: the address of the person it is about; None is for administrators and webhooks.
    """

    kind: str
    matter: str
    title: str
    text: str
    path: str
    to: str | None = None


Look: TypeAlias = Callable[[Database], Awaitable[Sequence[Notice]]]


def job(services: Services, looks: Sequence[Look]) -> Job:
    """Return the job that looks for something to tell.

    Args:
        looks: what each app has to tell of: `App(notices=...)`.
    """

    async def run() -> None:
        with acting_as(Actor("system:notices")):
            for look in looks:
                for notice in await look(services.db):
                    await _tell(services, notice)

    return Job("look for notices", run, LOOK_SECONDS)


async def _tell(services: Services, notice: Notice) -> None:
    """Store the messages about a matter, all at once; none to who comes later."""
    db, settings, to = services.db, services.settings, list[tuple[str, list[str]]]()
    if settings.smtp_url is not None:
        to.append(("mail", await _recipients(services, notice)))
    if notice.to is None:
        to.append(("webhook", list(settings.webhook_url)))
    content = {"title": notice.title, "text": notice.text, "path": notice.path}
    async with db.transaction():
        if await db.fetchval(IS_TOLD, notice.matter):
            return
        for channel, recipients in to:
            await store.put(db, channel, recipients, notice.kind, content, notice.matter)


async def _recipients(services: Services, notice: Notice) -> list[str]:
    if notice.to is not None:
        return [notice.to]
    if services.settings.notify:
        return list(services.settings.notify)
    return [row["email"] for row in await services.db.fetch(ADMINISTRATORS)]
