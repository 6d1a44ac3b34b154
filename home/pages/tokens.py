"""Tokens of programs on `/account` and `/people/<id>`, and accounts for programs alone."""

from __future__ import annotations

from starlette.datastructures import FormData
from starlette.requests import Request
from starlette.responses import Response

from audit.errors import GroundworkError, Refused
from home.accounts import authentication, tokens
from home.accounts.authentication import CurrentPasswordWrong
from home.accounts.hashing_queue import Busy
from home.accounts.people import ids_of
from home.accounts.sessions import SignedIn
from home.accounts.throttle import Throttled
from home.accounts.tokens import USUAL_DAYS
from home.accounts.verified_account import SignInRefused
from home.database.engine import Engine
from home.pages.account import AccountPages
from home.pages.people import PEOPLE
from home.pages.people_one import ONE, PersonPages, by_of
from home.web.pages import Page
from home.web.people import Who
from home.web.redirects import ACCOUNT, redirect

ENDED, GONE = "The token has ended.", "This token has ended already, or it is not for you to end."


class TokenPages:
    """The forms; the pages that they stand on are others'."""

    def __init__(self, db: Engine, account: AccountPages, person: PersonPages) -> None:
        self.db = db
        self.account = account
        self.person = person

    def pages(self) -> list[Page]:
        """Return the pages: of one's own tokens, and of those that administrators look after."""
        post = ["POST"]
        return [
            Page(f"{ACCOUNT}/tokens", self.make_own, Who.MEMBERS, methods=post),
            Page(f"{ACCOUNT}/tokens/end", self.end_own, Who.MEMBERS, methods=post),
            Page(f"{PEOPLE}/service", self.make_service, methods=post),
            Page(f"{ONE}/tokens", self.make_for_service, methods=post),
            Page(f"{ONE}/tokens/end", self.end_of_somebody, methods=post),
        ]

    async def make_own(self, request: Request) -> Response:
        """Make a token for who asks, and show it once."""
        person: SignedIn = request.state.person
        form = await request.form()
        name, scopes, days = _typed(form)
        try:
            account = await authentication.confirm_password(
                self.db, person, str(form.get("password", ""))
            )
            made = await tokens.create(
                self.db, person.id, person.id, name, scopes, days, account.version
            )
        except (CurrentPasswordWrong, SignInRefused, Throttled, Busy, Refused) as error:
            return await self._refused(request, error, name)
        return await self.account.show(request, made_token=made)

    async def _refused(self, request: Request, error: GroundworkError, name: str) -> Response:
        message = str(error)
        response = await self.account.show(request, error.status, "token", message, name=name)
        if error.retry_after is not None:
            response.headers["retry-after"] = str(error.retry_after)
        return response

    async def end_own(self, request: Request) -> Response:
        """End a token of who asks."""
        person: SignedIn = request.state.person
        return await self._end(request, person.id, ACCOUNT)

    async def make_service(self, request: Request) -> Response:
        """Make an account for a program."""
        form = await request.form()
        email, name = str(form.get("email", "")), str(form.get("display_name", "")).strip()[:255]
        try:
            made = await tokens.create_service(self.db, by_of(request), email, name or None)
        except Refused as error:
            return redirect(PEOPLE, str(error), failed=True)
        return redirect(f"{PEOPLE}/{made}", "The account is made. Make a token for its program.")

    async def make_for_service(self, request: Request) -> Response:
        """Make a token for a service account, and show it once."""
        row = await self.person.found(request)
        name, scopes, days = _typed(await request.form())
        try:
            made = await tokens.create(self.db, by_of(request), row["id"], name, scopes, days)
        except Refused as error:
            return redirect(f"{PEOPLE}/{row['id']}", str(error), failed=True)
        return await self.person.show(request, made_token=made)

    async def end_of_somebody(self, request: Request) -> Response:
        """End a token of somebody."""
        id_: int = request.path_params["id"]
        return await self._end(request, id_, f"{PEOPLE}/{id_}")

    async def _end(self, request: Request, user_id: int, back: str) -> Response:
        found = ids_of([str((await request.form()).get("token", ""))])
        if found and await tokens.end(self.db, by_of(request), user_id, found[0]):
            return redirect(back, ENDED)
        return redirect(back, GONE, failed=True)


def _typed(form: FormData) -> tuple[str, list[str], int]:
    """Return name, scopes and days of a form."""
    days = ids_of([str(form.get("days", USUAL_DAYS))]) or [0]
    scopes = [str(value) for value in form.getlist("scope")]
    return str(form.get("name", "")).strip(), scopes, days[0]
