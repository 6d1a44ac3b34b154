"""One-time links: what opens behind them, and how they are asked for."""

from __future__ import annotations

import time
from functools import partial
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from audit.errors import Refused
from audit.record import record
from home.accounts import authentication, links, throttle
from home.accounts.authentication import CurrentPasswordWrong
from home.accounts.credentials import normalise_email
from home.accounts.failures import RecentFailures, TooManyFailures
from home.accounts.hashing_queue import Busy
from home.accounts.links import Kind, Link, WrongLink
from home.accounts.passwords import MIN_LENGTH, MIN_LENGTH_ADMIN, PasswordRefused
from home.accounts.sessions import SignedIn
from home.accounts.throttle import Throttled
from home.accounts.verified_account import SignInRefused
from home.config.messages import is_mail_address
from home.database.engine import Engine
from home.outbox import store
from home.pages.people import PEOPLE
from home.pages.people_one import ONE, PersonPages, by_of
from home.services import Services
from home.web.curl import own_address
from home.web.pages import Page
from home.web.people import Who
from home.web.redirects import ACCOUNT, SIGN_IN, redirect
from home.web.rendering import render

NOT_TWICE = "The password was typed in two ways. Type it again."
LINK = "/link/{token}"
ASKED = "If there is such an account, a link is on its way to this address. It is good for an hour."

failures = RecentFailures()


class LinkPages:
    """The handlers. Where there is no mail, administrators hand links over themselves."""

    def __init__(self, services: Services, person: PersonPages) -> None:
        self.db: Engine = services.db
        self.has_mail = services.settings.smtp_url is not None
        self.person = person

    def pages(self) -> list[Page]:
        """Return the pages; those of mails only where there are mails."""
        post, both = ["POST"], ["GET", "POST"]
        found = [
            Page(LINK, self.follow, Who.ANYBODY, methods=both),
            Page(f"{PEOPLE}/invite", self.invite, methods=post),
            Page(f"{ONE}/link", self.make, Who.SUPERUSERS, methods=post),
        ]
        if self.has_mail:
            found += [
                Page("/forgotten", self.forgotten, Who.ANYBODY, methods=both),
                Page(f"{ACCOUNT}/address", self.change_address, Who.MEMBERS, methods=post),
            ]
        return found

    async def follow(self, request: Request) -> Response:
        """Show what a link is for; do it when the form is sent."""
        token = request.path_params["token"]
        try:
            link = await links.look(self.db, token)
            show = partial(self._page, request, link)
            if request.method != "POST":
                return show()
            if link.kind is Kind.ADDRESS:
                return await self._confirm(token)
            form = await request.form(max_files=0, max_fields=10)
            new, again = str(form.get("new", "")), str(form.get("again", ""))
            if new != again:
                return show(422, NOT_TWICE)
            await links.choose_password(self.db, token, new)
        except WrongLink as error:
            return await self._refused(request, error)
        except (PasswordRefused, Busy) as error:
            return show(error.status, str(error))
        return redirect(SIGN_IN, "Your password is stored. Sign in with it.")

    async def _confirm(self, token: str) -> Response:
        async with self.db.transaction():
            old, new = await links.confirm_address(self.db, token)
            if self.has_mail:
                text = f"Your account is known by {new} now. If that was not you, ask at once."
                content = {"title": "Your address was changed", "text": text, "path": "/sign-in"}
                await store.put(self.db, "mail", [old], "account.address", content)
        return redirect(SIGN_IN, f"From now on you sign in with {new}.")

    async def _refused(self, request: Request, error: WrongLink) -> Response:
        message, status = str(error), error.status
        try:
            await record(self.db, "link.refused", "link", details={"network": failures.count()})
        except TooManyFailures as too_many:
            message, status = str(too_many), too_many.status
        return render(request, "link.html", status, link=None, message=message, failed=True)

    def _page(self, request: Request, link: Link, status: int = 200, message: str = "") -> Response:
        least = MIN_LENGTH_ADMIN if link.is_admin else MIN_LENGTH
        shown: dict[str, Any] = {"link": link, "least": least, "message": message}
        return render(request, "link.html", status, failed=status > 399, **shown)

    async def invite(self, request: Request) -> Response:
        """Make an account for who is invited, and a link by which they choose a password."""
        form = await request.form()
        email, name = str(form.get("email", "")), str(form.get("display_name", "")).strip()[:255]
        try:
            async with self.db.transaction():
                made, id_, token = await links.invite(self.db, by_of(request), email, name or None)
                await self._send(id_, Kind.INVITATION, email)
        except Refused as error:
            return redirect(PEOPLE, str(error), failed=True)
        request.path_params["id"] = made
        return await self._told(request, token)

    async def make(self, request: Request) -> Response:
        """Make a link by which somebody chooses another password."""
        row = await self.person.found(request)
        try:
            async with self.db.transaction():
                id_, token = await links.for_somebody(self.db, by_of(request), row["id"])
                await self._send(id_, Kind.PASSWORD, row["email"])
        except Refused as error:
            return redirect(f"{PEOPLE}/{row['id']}", str(error), failed=True)
        return await self._told(request, token)

    async def _told(self, request: Request, token: str) -> Response:
        if self.has_mail:
            path = f"{PEOPLE}/{request.path_params['id']}"
            return redirect(path, "A link is on its way to their address.")
        return await self.person.show(request, link=f"{own_address(request)}/link/{token}")

    async def forgotten(self, request: Request) -> Response:
        """Send a link to who has forgotten their password; the answer is always the same."""
        if request.method != "POST":
            return render(request, "forgotten.html", message="", failed=False)
        form = await request.form(max_files=0, max_fields=10)
        email = normalise_email(str(form.get("email", "")))
        try:
            async with self.db.transaction():
                await throttle.count_registration(self.db, email, "password.requested")
                if is_mail_address(email):
                    # Nobody's mailbox is filled by others: one in ten minutes.
                    matter = f"forgotten:{int(time.time()) // 600}"
                    await store.put(self.db, "mail", [email], "link.password", {}, matter)
        except Throttled as error:
            return render(request, "forgotten.html", error.status, message=str(error), failed=True)
        return render(request, "forgotten.html", message=ASKED, failed=False, done=True)

    async def change_address(self, request: Request) -> Response:
        """Send a link to the new address of who asks; it changes when that is followed."""
        person: SignedIn = request.state.person
        form = await request.form()
        email = normalise_email(str(form.get("email", "")))
        if not is_mail_address(email):
            return redirect(ACCOUNT, "This is not a valid e-mail address.", failed=True)
        try:
            password = str(form.get("password", ""))
            account = await authentication.confirm_password(self.db, person, password)
        except (CurrentPasswordWrong, SignInRefused, Throttled, Busy) as error:
            return redirect(ACCOUNT, str(error), failed=True)
        async with self.db.transaction():
            link = await links.make(
                self.db, person.id, Kind.ADDRESS, email=email, version=account.version
            )
            if link is not None:
                await self._send(link[0], Kind.ADDRESS, email)
        return redirect(ACCOUNT, f"Follow the link that is on its way to {email}.")

    async def _send(self, link_id: int, kind: Kind, email: str) -> None:
        if self.has_mail:
            content = {"link_id": link_id}
            to = [normalise_email(email)]
            await store.put(self.db, "mail", to, f"link.{kind}", content)
