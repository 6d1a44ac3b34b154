"""`/people/<id>`: one person in words, and what can be done about them."""

from __future__ import annotations

from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from audit.database import Record
from audit.errors import Refused
from audit.filters import Filters
from audit.reading import page
from home.accounts import own_history, people, people_history, rights, sessions
from home.accounts.decisions import DECISIONS
from home.accounts.rights import Rights
from home.accounts.sessions import SignedIn
from home.database.engine import Engine
from home.pages import people_words
from home.pages.account import shown_session, tokens_of
from home.pages.people import PEOPLE, groups_of
from home.pages.trail.entries import days_of, record_link
from home.web.pages import Page
from home.web.people import Who
from home.web.redirects import redirect
from home.web.rendering import render

# What can be decided about somebody, and the group in which they must still be then.
OFFERED = {
    "waiting": (("approve", "waiting"), ("reject", "waiting")),
    "active": (("disable", "active"),),
    "disabled": (("enable", "disabled"),),
    "rejected": (("approve", "disabled"), ("enable", "disabled")),
}
ONE = f"{PEOPLE}/{{id:int}}"


class PersonPages:
    """The page of one person, and the forms on it."""

    def __init__(self, db: Engine, has_tokens: bool) -> None:
        self.db = db
        self.has_tokens = has_tokens

    def pages(self) -> list[Page]:
        """Return the pages; auditors see the person, and neither sessions nor buttons."""
        post = ["POST"]
        return [
            Page(ONE, self.show, Who.READERS),
            Page(f"{ONE}/sessions/end", self.end_session, methods=post),
            Page(f"{ONE}/password", self.give_password, Who.SUPERUSERS, methods=post),
            Page(f"{ONE}/second-factor/remove", self.remove_factor, Who.SUPERUSERS, methods=post),
            Page(f"{ONE}/rights", self.change_rights, Who.SUPERUSERS, methods=post),
        ]

    async def show(
        self, request: Request, password: str = "", made_token: str = "", link: str = ""
    ) -> Response:
        """Show the page.

        Args:
            password: a new one, which is told this once.
            made_token, link: likewise.
        """
        looks: SignedIn = request.state.person
        row = await self.found(request)
        about = await own_history.newest(self.db, row["id"], row["email"])
        did = await page(self.db, Filters(user_id=row["id"]), size=own_history.NEWEST)
        state = people.state_of(row)
        is_above = (row["is_admin"] or row["is_superuser"]) and not looks.is_superuser
        may_decide = looks.is_admin and not is_above and looks.id != row["id"]
        return render(
            request,
            "people_one.html",
            row={**row, "state": state},
            standing=await self._status(row, state),
            groups=groups_of(request),
            may_decide=may_decide,
            is_above=is_above and looks.is_admin,
            decisions=[(DECISIONS[name], group) for name, group in OFFERED[state]],
            end_sessions=DECISIONS["end_sessions"],
            sessions=await self._sessions(looks, row["id"]),
            days=await days_of(request, did),
            link_of=record_link,
            happened=[people_words.happened_to(each, row["id"]) for each in about],
            password=password,
            made_token=made_token,
            link=link,
            tokens=await self._tokens(looks, row["id"]),
            back=f"{PEOPLE}/{row['id']}",
        )

    async def end_session(self, request: Request) -> Response:
        """End one session of somebody."""
        sid = str((await request.form()).get("session", ""))
        id_ = request.path_params["id"]
        return await _told(
            id_, rights.end_session(self.db, by_of(request), id_, sid), "The session has ended."
        )

    async def give_password(self, request: Request) -> Response:
        """Store a new password, and show it once."""
        row = await self.found(request)
        try:
            password = await rights.give_password(self.db, by_of(request), row["id"])
        except Refused as error:
            return redirect(f"{PEOPLE}/{row['id']}", str(error), failed=True)
        return await self.show(request, password)

    async def remove_factor(self, request: Request) -> Response:
        """Take somebody's second factor away, and their sessions with it."""
        row = await self.found(request)

        async def remove() -> None:
            if not await rights.remove_second_factor(self.db, by_of(request), row["id"]):
                raise Refused("There is no second factor.")

        return await _told(row["id"], remove(), "The password alone signs in now.")

    async def change_rights(self, request: Request) -> Response:
        """Give somebody the rights that are ticked."""
        row, form = await self.found(request), await request.form()
        before = Rights(*(f"had_{name}" in form for name in Rights._fields))
        after = Rights(*(name in form for name in Rights._fields))
        change = rights.change_rights(self.db, by_of(request), row["id"], before, after)
        return await _told(row["id"], change, "The rights are changed.")

    async def found(self, request: Request) -> Record:
        """Return the person of the address."""
        row = await people.find(self.db, request.path_params["id"])
        if row is None:
            raise HTTPException(404, "There is no such person. Perhaps the account was deleted.")
        return row

    async def _sessions(self, looks: SignedIn, person_id: int) -> list[dict[str, Any]]:
        if not looks.is_admin:
            return []
        return [shown_session(row, looks) for row in await sessions.list_of(self.db, person_id)]

    async def _tokens(self, looks: SignedIn, person_id: int) -> list[dict[str, Any]] | None:
        if not (looks.is_admin and self.has_tokens):
            return None
        return await tokens_of(self.db, person_id)

    async def _status(self, row: Record, state: str) -> people_words.Status:
        if state == "waiting":
            return people_words.Status("Waits for approval since", row["created_at"])
        if state == "active":
            return people_words.approved(row)
        made = await people_history.newest_turn(self.db, row["id"], "is_disabled")
        return people_words.kept_out(made, state)


async def _told(person_id: int, work: Any, done: str) -> Response:
    """Lead back to a person's page with what was done, or why it was refused."""
    try:
        await work
    except Refused as error:
        return redirect(f"{PEOPLE}/{person_id}", str(error), failed=True)
    return redirect(f"{PEOPLE}/{person_id}", done)


def by_of(request: Request) -> int:
    """Return the id of who asks."""
    person: SignedIn = request.state.person
    return person.id
