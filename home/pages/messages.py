"""`/messages`: what waits to be delivered, what died, and what was delivered last."""

from __future__ import annotations

from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import Response

from audit.database import Record
from audit.record import record
from home.accounts.people import ids_of
from home.database.engine import Engine
from home.outbox import store
from home.pages.panels import Figure, Need, Panel, Urgency
from home.web.pages import Page
from home.web.redirects import redirect
from home.web.rendering import render
from home.web.words import plural

MESSAGES = "/messages"


class MessagePages:
    """The list, and trying again."""

    def __init__(self, db: Engine) -> None:
        self.db = db

    def pages(self) -> list[Page]:
        """Return the pages; they are for administrators."""
        return [
            Page(MESSAGES, self.show, title="Messages"),
            Page(f"{MESSAGES}/again", self.again, methods=["POST"]),
        ]

    async def show(self, request: Request) -> Response:
        """Show the newest messages, those first that somebody should look at."""
        rows = [{**row, "place": place_of(row)} for row in await store.newest(self.db)]
        return render(request, "messages.html", messages=rows)

    async def again(self, request: Request) -> Response:
        """Have a message tried again."""
        found = ids_of([str((await request.form()).get("message", ""))])
        if not found or not await store.again(self.db, found[0]):
            return redirect(MESSAGES, "It was delivered meanwhile, or is gone.", failed=True)
        await record(self.db, "outbox.again", "outbox", found[0])
        return redirect(MESSAGES, "It is tried again now.")


def place_of(row: Record) -> str:
    """Return where a message goes, as it may be shown: an address of a webhook can be a secret."""
    if row["channel"] == "webhook":
        return urlsplit(row["recipient"]).hostname or "nowhere"
    return str(row["recipient"])


async def messages(db: Engine) -> Panel:
    """Show how many messages wait, and how many are dead."""
    waiting, dead = await store.counts(db)
    figures = [
        Figure("waiting", f"{waiting:,}", MESSAGES),
        Figure("dead", f"{dead:,}", MESSAGES, needs_attention=dead > 0),
    ]
    needs = [Need(f"{plural(dead, 'message')} could not be delivered.", MESSAGES, Urgency.TODAY)]
    return Panel("Messages", figures, needs=needs if dead else [])
