"""Pages without scripts: signing in, asking for an account, and the second factor."""

from __future__ import annotations

from functools import partial
from typing import Any
from urllib.parse import quote

import asyncpg
from starlette.datastructures import FormData
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from home.accounts import authentication as accounts
from home.accounts.passwords import PasswordRefused
from home.accounts.second_factor import AuthenticatorSecret, SecondFactor, SetupFailed
from home.accounts.sessions import SecondFactorMissing
from home.accounts.throttle import Throttled
from home.web.cookies import set_session_cookie
from home.web.pages import Page
from home.web.people import Who
from home.web.rendering import render

BACK_OFFICE = "/admin/"
SIGN_IN_FAILED = "Wrong e-mail address, password or code."
CODE_NEEDED = "Enter the code that your authenticator app shows now, or a recovery code."


class SignInPages:
    """The handlers. A form comes back with what was typed, but for secrets, and one sentence.

    Args:
        registration: whether people may ask for an account.
    """

    def __init__(self, factor: SecondFactor, registration: bool) -> None:
        self.factor = factor
        self.registration = registration

    def pages(self) -> list[Page]:
        """Return the pages; all are for anybody."""
        views = {
            "/sign-in": self.sign_in,
            "/register": self.register,
            "/second-factor": self.second_factor,
            "/admin/api/mfa-setup/{rest:path}": self.to_second_factor,
        }
        return [
            Page(path, view, Who.ANYBODY, methods=("GET", "POST")) for path, view in views.items()
        ]

    async def sign_in(self, request: Request) -> Response:
        show = partial(self._page, request, "sign_in")
        if request.method != "POST":
            return show()
        form = await request.form(max_files=0, max_fields=20)
        email, password, code = (_text(form, name) for name in ("email", "password", "code"))
        try:
            token = await accounts.sign_in(self.factor, email, password, code)
        except accounts.CodeNeeded:
            return show(401, email=email, message=CODE_NEEDED, with_code=True)
        except (accounts.SignInFailed, SecondFactorMissing, Throttled) as error:
            return show(*_told(error), email=email, with_code=bool(code))
        response = RedirectResponse(BACK_OFFICE, 303)  # which sends members on
        set_session_cookie(response, token)
        return response

    async def register(self, request: Request) -> Response:
        show = partial(self._page, request, "register")
        if not self.registration:
            return show(403, message="Ask an administrator for an account.")
        if request.method != "POST":
            return show()
        form = await request.form(max_files=0, max_fields=20)
        typed = {name: _text(form, name)[:255] for name in ("email", "display_name")}
        try:
            await accounts.register(
                typed["email"],
                _text(form, "password"),
                display_name=typed["display_name"] or None,
            )
        except PasswordRefused as error:
            return show(422, message=str(error), **typed)
        except (asyncpg.CheckViolationError, asyncpg.DataError, UnicodeError):
            return show(422, message="This is not a valid e-mail address.", **typed)
        return show(done=True)

    async def second_factor(self, request: Request) -> Response:
        """Begin with e-mail and password, confirm with a code; or turn it off."""
        show = partial(self._page, request, "second_factor")
        if not self.factor.is_available:
            return show(404, message="Second factors are not set up here.")
        if request.method != "POST":
            return show()
        form = await request.form(max_files=0, max_fields=20)
        if setup := _text(form, "setup"):
            return await self._confirm(request, setup, _text(form, "code"), _text(form, "email"))
        email, password, code = (_text(form, name) for name in ("email", "password", "code"))
        try:
            user_id = await accounts.check_credentials(self.factor, email, password, code)
        except accounts.CodeNeeded:
            return show(401, email=email, message=CODE_NEEDED, is_on=True)
        except (accounts.SignInFailed, Throttled) as error:
            return show(*_told(error), email=email, is_on=bool(code))
        if form.get("action") == "off":
            await AuthenticatorSecret.revoke(user_id)
            return show(message="Your second factor is off.", email=email)
        return self._setup_page(request, email, *self.factor.begin(user_id))

    async def _confirm(self, request: Request, setup: str, code: str, email: str) -> Response:
        try:
            codes = await self.factor.confirm(setup, code)
        except SetupFailed as error:
            secret = self.factor.secret_of(setup)
            if secret is None:
                return self._page(request, "second_factor", 422, message=str(error), email=email)
            return self._setup_page(request, email, secret, setup, 422, message=str(error))
        return self._page(request, "second_factor", codes=codes)

    def _setup_page(
        self, request: Request, email: str, secret: str, setup: str, status: int = 200, **more: Any
    ) -> Response:
        shown = {"email": email, "secret": secret, "setup": setup}
        shown["picture"] = "data:image/svg+xml," + quote(self.factor.picture(secret, email))
        return self._page(request, "second_factor", status, **shown, **more)

    async def to_second_factor(self, request: Request) -> Response:
        """The back office's own page for it takes effect before it works, and blocks for long."""
        return RedirectResponse("/second-factor", 303)

    def _page(
        self, request: Request, name: str, status: int = 200, message: str = "", **more: Any
    ) -> Response:
        always = {"failed": status > 399, "registration": self.registration}
        return render(request, f"{name}.html", status, message=message, **always, **more)


def _text(form: FormData, name: str) -> str:
    value = form.get(name)
    return value if isinstance(value, str) else ""


def _told(error: Exception) -> tuple[int, str]:
    """Status and sentence."""
    match error:
        case Throttled():
            return 429, str(error)
        case SecondFactorMissing():
            return 403, str(error) + "."
    return 401, SIGN_IN_FAILED
