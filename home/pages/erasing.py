"""`/people/<id>/erase`: what would go with a person, and erasing them."""

from __future__ import annotations

import asyncpg
from starlette.requests import Request
from starlette.responses import Response

from audit.digests import SealKeys
from audit.errors import DatabaseUnavailable, Refused
from audit.known_person import Eraser
from audit.seals import OtherKey
from audit.settings import AuditSettings
from home.accounts.credentials import normalise_email
from home.accounts.rights import require_superuser
from home.pages.people import PEOPLE
from home.pages.people_one import ONE, PersonPages, by_of
from home.services import Services
from home.web.pages import Page
from home.web.people import Who
from home.web.redirects import redirect
from home.web.rendering import render

LONGEST_REASON = 500
COMMAND = "piccolo audit erase --person={} --yes --reason=..."
NOT_YOURSELF = "Nobody erases themselves: ask another superuser, or use piccolo audit erase."
ONLY_SUPERUSERS = "Only superusers erase people."
NOT_HERE = "This cannot be done from here: {}. On the server: " + COMMAND


class ErasePages:
    """The page, for superusers. What takes longer than a request may is left to the command."""

    def __init__(self, services: Services, person: PersonPages) -> None:
        self.services = services
        self.person = person

    def pages(self) -> list[Page]:
        """Return the page."""
        return [Page(f"{ONE}/erase", self.erase, Who.SUPERUSERS, methods=["GET", "POST"])]

    async def erase(self, request: Request) -> Response:
        """Show what would go; erase when address and reason are given."""
        from audit.erase import erase  # these are for whoever asks, not for every start
        from audit.verify import NoArchive

        row = await self.person.found(request)
        if row["id"] == by_of(request):
            return redirect(f"{PEOPLE}/{row['id']}", NOT_YOURSELF, failed=True)
        try:
            if request.method != "POST":
                return await self._page(request, 200)
            form = await request.form(max_files=0, max_fields=5)
            reason = str(form.get("reason", "")).strip()
            if normalise_email(str(form.get("email", ""))) != row["email"]:
                return await self._page(request, 422, "This is not the address of this account.")
            if not 0 < len(reason) <= LONGEST_REASON:
                return await self._page(request, 422, "A reason is missing, or it is too long.")
            keys = SealKeys.of(self.services.settings_of(AuditSettings))
            async with self.services.db.transaction():
                await require_superuser(self.services.db, by_of(request), ONLY_SUPERUSERS)
                erasers = self._erasers(request)
                done = await erase(self.services.db, keys, erasers, row["id"], reason)
        except asyncpg.InsufficientPrivilegeError:
            why = "the application's role does not own the trail"
            raise Refused(NOT_HERE.format(why, row["id"])) from None
        except DatabaseUnavailable as error:
            if error.reason != "timeout":
                raise
            raise Refused(NOT_HERE.format("it takes too long", row["id"])) from None
        except NoArchive:
            raise Refused(NOT_HERE.format("a part of the trail is archived", row["id"])) from None
        except OtherKey as error:
            raise Refused(NOT_HERE.format(error, row["id"])) from None
        told = f"Erased. The trail calls them {done.pseudonym} now, in {done.rows:,} rows."
        return redirect(PEOPLE, told)

    async def _page(self, request: Request, status: int, notice: str = "") -> Response:
        from audit.erase import would_erase

        row = await self.person.found(request)
        would = await would_erase(self.services.db, self._erasers(request), row["id"])
        return render(
            request, "erase.html", status, row=row, would=would, message=notice, failed=True,
            tables=sorted((name, rows) for name, rows in would.tables.items() if rows),
        )  # fmt: skip

    def _erasers(self, request: Request) -> list[Eraser]:
        found: list[Eraser] = request.app.state.erasers()
        return found
