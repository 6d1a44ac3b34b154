"""Pages without scripts: signing in, asking for an account, and the second factor."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any
from urllib.parse import quote

import asyncpg
from starlette.datastructures import FormData
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from audit.errors import GroundworkError
from home.accounts import authentication, authenticator, registration
from home.accounts.authentication import CodeNeeded
from home.accounts.credentials import AccountDisabled, AwaitingApproval, SignInFailed
from home.accounts.hashing_queue import Busy
from home.accounts.passwords import PasswordRefused
from home.accounts.second_factor import SecondFactor, Setup, SetupFailed, WrongCode
from home.accounts.sessions import SecondFactorMissing
from home.accounts.throttle import Throttled
from home.accounts.verified_account import SignInRefused
from home.database.engine import Engine
from home.web.cookies import set_device_cookie, set_session_cookie
from home.web.pages import Page
from home.web.people import Who
from home.web.rendering import render

BACK_OFFICE = "/admin/"
SIGN_IN_FAILED = "Wrong e-mail address, password or code."
CODE_NEEDED = "Enter the code that your authenticator app shows now, or a recovery code."
# Shown on the page where somebody typed.
REFUSALS = (
    SignInFailed,
    CodeNeeded,
    AwaitingApproval,
    AccountDisabled,
    SignInRefused,
    SecondFactorMissing,
    Throttled,
    Busy,
)


class SignInPages:
    """The handlers. A form comes back with what was typed, but for secrets, and one sentence.

    Args:
        registration: whether people may ask for an account.
    """

    def __init__(self, db: Engine, factor: SecondFactor, registration: bool) -> None:
        self.db = db
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
        """Sign in with e-mail address and password, and a code if there is a second factor."""
        show = partial(self._page, request, "sign_in")
        if request.method != "POST":
            return show()
        form = await request.form(max_files=0, max_fields=20)
        email, password, code = (_text(form, name) for name in ("email", "password", "code"))
        try:
            cookies = await authentication.sign_in(self.db, self.factor, email, password, code)
        except REFUSALS as error:
            with_code = bool(code) or isinstance(error, CodeNeeded)
            return _refused(show, error, email=email, with_code=with_code)
        response = RedirectResponse(BACK_OFFICE, 303)  # which sends members on
        set_session_cookie(response, cookies.session)
        set_device_cookie(response, cookies.device)
        return response

    async def register(self, request: Request) -> Response:
        """Ask for an account."""
        show = partial(self._page, request, "register")
        if not self.registration:
            return show(403, message="Ask an administrator for an account.")
        if request.method != "POST":
            return show()
        form = await request.form(max_files=0, max_fields=20)
        typed = {name: _text(form, name)[:255] for name in ("email", "display_name")}
        try:
            await registration.register(
                self.db,
                typed["email"],
                _text(form, "password"),
                display_name=typed["display_name"] or None,
            )
        except (PasswordRefused, Throttled, Busy) as error:
            return _refused(show, error, **typed)
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
        if token := _text(form, "setup"):
            return await self._confirm(request, token, _text(form, "code"))
        email, password, code = (_text(form, name) for name in ("email", "password", "code"))
        try:
            account = await authentication.check_credentials(
                self.db, self.factor, email, password, code
            )
        except REFUSALS as error:
            is_on = bool(code) or isinstance(error, CodeNeeded)
            return _refused(show, error, email=email, is_on=is_on)
        if form.get("action") == "off":
            await authenticator.remove(self.db, account.user_id, account.version)
            return show(message="Your second factor is off.", email=email)
        return self._setup_page(request, self.factor.begin(account))

    async def _confirm(self, request: Request, token: str, code: str) -> Response:
        setup: Setup | None = None
        try:
            setup = self.factor.opened(token)
            codes = await self.factor.confirm(setup, code)
        except WrongCode as error:
            assert setup is not None
            return self._setup_page(request, setup, 422, message=str(error))
        except SetupFailed as error:
            email = setup.email if setup else ""
            return self._page(request, "second_factor", 422, message=str(error), email=email)
        return self._page(request, "second_factor", codes=codes)

    def _setup_page(
        self, request: Request, setup: Setup, status: int = 200, message: str = ""
    ) -> Response:
        picture = "data:image/svg+xml," + quote(self.factor.picture(setup.secret, setup.email))
        shown = {"secret": setup.secret, "setup": self.factor.token(setup), "picture": picture}
        return self._page(request, "second_factor", status, message, **shown)

    async def to_second_factor(self, request: Request) -> Response:
        """Go to our page: the back office's own takes effect before it works, and blocks long."""
        return RedirectResponse("/second-factor", 303)

    def _page(
        self, request: Request, name: str, status: int = 200, message: str = "", **more: Any
    ) -> Response:
        always = {
            "failed": status > 399,
            "registration": self.registration,
            "has_second_factors": self.factor.is_available,
        }
        return render(request, f"{name}.html", status, message=message, **always, **more)


def _text(form: FormData, name: str) -> str:
    value = form.get(name)
    return value if isinstance(value, str) else ""


def _refused(show: Callable[..., Response], error: GroundworkError, **shown: Any) -> Response:
    """Return the page again, with what is wrong."""
    if isinstance(error, CodeNeeded):
        message = CODE_NEEDED
    elif isinstance(error, SignInFailed):
        message = SIGN_IN_FAILED
    else:
        message = str(error)
    response = show(error.status, message=message, **shown)
    if error.retry_after is not None:
        response.headers["retry-after"] = str(error.retry_after)
    return response
