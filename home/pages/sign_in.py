"""Pages without scripts: signing in, asking for an account, and the second factor."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import asyncpg
from starlette.datastructures import FormData
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from home.accounts import authentication as accounts
from home.accounts.passwords import PasswordRefused
from home.accounts.second_factor import AuthenticatorSecret, SecondFactor, SetupFailed
from home.accounts.sessions import SecondFactorMissing
from home.accounts.throttle import Throttled
from home.web.cookies import set_session_cookie
from home.web.rendering import page

BACK_OFFICE = "/admin/"
SIGN_IN_FAILED = (
    "This e-mail address and password (and code, if you have a second factor) open no account."
)
CODE_NEEDED = "Enter the code that your authenticator app shows now, or a recovery code."


class Pages:
    """The handlers. A form comes back with what was typed, but for secrets, and one sentence.

    Args:
        registration: whether people may ask for an account.
    """

    def __init__(self, factor: SecondFactor, registration: bool) -> None:
        self.factor = factor
        self.registration = registration

    def routes(self) -> list[Route]:
        return [
            Route("/sign-in", self.sign_in, methods=["GET", "POST"]),
            Route("/register", self.register, methods=["GET", "POST"]),
            Route("/second-factor", self.second_factor, methods=["GET", "POST"]),
            Route("/admin/api/mfa-setup/", self.to_second_factor, methods=["GET", "POST"]),
        ]

    async def sign_in(self, request: Request) -> Response:
        if request.method != "POST":
            return self._page("sign_in")
        form = await request.form(max_files=0, max_fields=20)
        email, password, code = (_text(form, name) for name in ("email", "password", "code"))
        try:
            token = await accounts.sign_in(self.factor, email, password, code)
        except accounts.CodeNeeded:
            return self._page("sign_in", 401, email=email, message=CODE_NEEDED, with_code=True)
        except (accounts.SignInFailed, SecondFactorMissing, Throttled) as error:
            return self._page("sign_in", *_told(error), email=email, with_code=bool(code))
        response = RedirectResponse(BACK_OFFICE, 303)  # which sends members on
        set_session_cookie(response, token)
        return response

    async def register(self, request: Request) -> Response:
        if not self.registration:
            return self._page("register", 403, message="Ask an administrator for an account.")
        if request.method != "POST":
            return self._page("register")
        form = await request.form(max_files=0, max_fields=20)
        typed = {name: _text(form, name)[:255] for name in ("email", "display_name")}
        try:
            await accounts.register(
                typed["email"],
                _text(form, "password"),
                display_name=typed["display_name"] or None,
            )
        except PasswordRefused as error:
            return self._page("register", 422, message=str(error), **typed)
        except (asyncpg.CheckViolationError, asyncpg.DataError, UnicodeError):
            return self._page("register", 422, message="This is no e-mail address.", **typed)
        return self._page("register", done=True)

    async def second_factor(self, request: Request) -> Response:
        """Begin with e-mail and password, confirm with a code; or turn it off."""
        if not self.factor.is_available:
            return self._page("second_factor", 404, message="Second factors are not set up here.")
        if request.method != "POST":
            return self._page("second_factor")
        form = await request.form(max_files=0, max_fields=20)
        if setup := _text(form, "setup"):
            return await self._confirm(setup, _text(form, "code"), _text(form, "email"))
        email, password, code = (_text(form, name) for name in ("email", "password", "code"))
        try:
            user_id = await accounts.prove(self.factor, email, password, code)
        except accounts.CodeNeeded:
            return self._page("second_factor", 401, email=email, message=CODE_NEEDED, is_on=True)
        except (accounts.SignInFailed, Throttled) as error:
            return self._page("second_factor", *_told(error), email=email, is_on=bool(code))
        if form.get("action") == "off":
            await AuthenticatorSecret.revoke(user_id)
            return self._page("second_factor", message="Your second factor is off.", email=email)
        return self._setup_page(email, *self.factor.begin(user_id))

    async def _confirm(self, setup: str, code: str, email: str) -> Response:
        try:
            codes = await self.factor.confirm(setup, code)
        except SetupFailed as error:
            secret = self.factor.secret_of(setup)
            if secret is None:
                return self._page("second_factor", 422, message=str(error), email=email)
            return self._setup_page(email, secret, setup, 422, message=str(error))
        return self._page("second_factor", codes=codes)

    def _setup_page(
        self, email: str, secret: str, setup: str, status: int = 200, **more: Any
    ) -> Response:
        shown = {"email": email, "secret": secret, "setup": setup}
        shown["picture"] = "data:image/svg+xml," + quote(self.factor.picture(secret, email))
        return self._page("second_factor", status, **shown, **more)

    async def to_second_factor(self, request: Request) -> Response:
        """The back office's own page for it takes effect before it works, and blocks for long."""
        return RedirectResponse("/second-factor", 303)

    def _page(self, name: str, status: int = 200, message: str = "", **more: Any) -> Response:
        always = {"failed": status > 399, "registration": self.registration}
        return page(name, status, message=message, **always, **more)


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
