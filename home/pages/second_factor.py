"""`/second-factor`: setting one up, replacing it, and turning it off. Without scripts."""

from __future__ import annotations

from functools import partial
from typing import Any
from urllib.parse import quote

from starlette.datastructures import FormData
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from home.accounts import authentication, authenticator
from home.accounts.second_factor import SecondFactor, Setup, SetupFailed, WrongCode
from home.accounts.sign_on import recent
from home.accounts.sign_on.recent import Passwordless, SignOnTooOld
from home.accounts.verified_account import VerifiedAccount
from home.database.engine import Engine
from home.pages.sign_in import REFUSALS, SignInPages, text_of
from home.web.pages import Page, person_at
from home.web.people import Who

PATH = "/second-factor"
HAS_PASSWORD = "Your account has a password. Begin with it."  # noqa: S105  a sentence


class SecondFactorPages:
    """The handlers.

    Args:
        sign_in: knows whose password, or proof of one, somebody has sent.
    """

    def __init__(self, db: Engine, factor: SecondFactor, sign_in: SignInPages) -> None:
        self.db = db
        self.factor = factor
        self.sign_in = sign_in

    def pages(self) -> list[Page]:
        """Return the pages, for anybody: administrators may need one to sign in at all."""
        views = {PATH: self.second_factor, "/admin/api/mfa-setup/{rest:path}": self.go_there}
        methods = ("GET", "POST")
        return [Page(path, view, Who.ANYBODY, methods=methods) for path, view in views.items()]

    async def second_factor(self, request: Request) -> Response:
        """Begin with e-mail and password, or with having signed in by a provider just now; confirm
        with a code; or turn it off."""
        if not self.factor.is_available:
            return self._page(request, 404, "Second factors are not set up here.")
        form = await request.form(max_files=0, max_fields=20) if request.method == "POST" else None
        if form and (token := text_of(form, "setup")):
            return await self._confirm(request, token, text_of(form, "code"))
        await person_at(request)
        found = await self._passwordless(request)
        show = partial(self._page, request, passwordless=found)
        if form is None:
            return show()
        try:
            account = await self._verified(form, found)
        except (*REFUSALS, SignOnTooOld) as error:
            return self.sign_in.refused(show, error, form)
        if form.get("action") == "off":
            await authenticator.remove(self.db, account.user_id, account.version)
            request.state.person = None
            return self._page(request, message="Your second factor is off.", email=account.email)
        return self.set_up(request, account)

    def set_up(self, request: Request, account: VerifiedAccount, message: str = "") -> Response:
        """Return the page that shows a new secret, and asks for a code of it.

        Args:
            account: of which everything was shown that is asked of it.
        """
        return self._setup_page(request, self.factor.begin(account), message=message)

    async def go_there(self, request: Request) -> Response:
        """Go to our page: the back office's own takes effect before it works, and blocks long."""
        return RedirectResponse(PATH, 303)

    async def _passwordless(self, request: Request) -> Passwordless | None:
        person = request.state.person
        if person is None or not self.sign_in.providers:
            return None
        return await recent.passwordless(self.db, person.sid)

    async def _verified(self, form: FormData, found: Passwordless | None) -> VerifiedAccount:
        """Return whose second factor this is about; a code was shown of the one that is there.

        Raises:
            SignOnTooOld: of who has no password, and did not sign in just now.
            SetupFailed: who has one came by a provider.
            As `SignInPages.verified`.
        """
        if "by_provider" in form:
            if found is None or not found.is_recent:
                raise SignOnTooOld
            return await authentication.check_code(self.factor, found.account, None)
        account = await self.sign_in.verified(form)
        if account.provider and not await recent.is_passwordless(self.db, account):
            raise SetupFailed(HAS_PASSWORD)
        return account

    async def _confirm(self, request: Request, token: str, code: str) -> Response:
        setup: Setup | None = None
        try:
            setup = self.factor.opened(token)
            codes = await self.factor.confirm(setup, code)
        except WrongCode as error:
            assert setup is not None
            return self._setup_page(request, setup, 422, str(error))
        except SetupFailed as error:
            await person_at(request)
            email, found = setup.email if setup else "", await self._passwordless(request)
            return self._page(request, 422, str(error), email=email, passwordless=found)
        return self._page(request, codes=codes)

    def _setup_page(
        self, request: Request, setup: Setup, status: int = 200, message: str = ""
    ) -> Response:
        picture = "data:image/svg+xml," + quote(self.factor.picture(setup.secret, setup.email))
        shown = {"secret": setup.secret, "setup": self.factor.token(setup), "picture": picture}
        return self._page(request, status, message, **shown)

    def _page(
        self, request: Request, status: int = 200, message: str = "", **shown: Any
    ) -> Response:
        return self.sign_in.page(request, "second_factor", status, message, **shown)
