"""Pages without scripts: signing in, and asking for an account."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any
from urllib.parse import urlencode

import asyncpg
from starlette.datastructures import FormData
from starlette.requests import Request
from starlette.responses import Response

from audit.errors import GroundworkError
from home.accounts import authentication, registration, sessions
from home.accounts.authentication import CodeNeeded
from home.accounts.credentials import AccountDisabled, AwaitingApproval, SignInFailed
from home.accounts.hashing_queue import Busy
from home.accounts.passwords import PasswordRefused
from home.accounts.second_factor import SecondFactor, SetupFailed
from home.accounts.sessions import SecondFactorMissing, request_info
from home.accounts.throttle import Throttled
from home.accounts.verified_account import SignInRefused, VerifiedAccount
from home.config.providers import Provider
from home.database.engine import Engine
from home.web.cookies import set_device_cookie, set_session_cookie
from home.web.pages import Page
from home.web.people import Who
from home.web.redirects import OVERVIEW, local_path, redirect, start_of
from home.web.rendering import render

SIGNED_OUT = "You are signed out."
SIGN_IN_FAILED = "Wrong e-mail address, password or code."
WRONG_CODE = "This code is wrong, or was used before. Enter the next one."
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
    SetupFailed,
)


class SignInPages:
    """The handlers. A form comes back with what was typed, but for secrets, and one sentence.

    Args:
        registration: whether people may ask for an account.
        providers: of identities, by which people may sign in.
        has_mail: whether a link is sent to who has forgotten their password.
    """

    def __init__(
        self,
        db: Engine,
        factor: SecondFactor,
        registration: bool,
        providers: Sequence[Provider] = (),
        has_mail: bool = False,
    ) -> None:
        self.db = db
        self.factor = factor
        self.registration = registration
        self.has_mail = has_mail
        self.providers = {provider.name: provider for provider in providers}

    def pages(self) -> list[Page]:
        """Return the pages; all but signing out are for anybody."""
        views = {"/sign-in": self.sign_in, "/register": self.register}
        methods = ("GET", "POST")
        return [
            *(Page(path, view, Who.ANYBODY, methods=methods) for path, view in views.items()),
            Page("/sign-out", self.sign_out, Who.MEMBERS, methods=["POST"]),
        ]

    async def sign_in(self, request: Request) -> Response:
        """Sign in with e-mail address and password, and a code if there is a second factor."""
        show = partial(self.page, request, "sign_in")
        if request.method != "POST":
            return show(signed_out_of=self.providers.get(request.query_params.get("out", "")))
        form = await request.form(max_files=0, max_fields=20)
        try:
            account = await self.verified(form)
            cookies = await authentication.begin_session(self.db, account)
        except REFUSALS as error:
            return self.refused(show, error, form)
        place = local_path(request.query_params.get("next", ""))
        if not place:
            person = await sessions.authenticate(self.db, cookies.session)
            place = start_of(person) if person else OVERVIEW
        response = redirect(place)
        set_session_cookie(response, cookies.session)
        if cookies.device:
            set_device_cookie(response, cookies.device)
        return response

    def ask_for_code(self, request: Request, email: str, proof: str, place: str) -> Response:
        """Return the page that asks for the code alone, of who came by an identity provider."""
        action = f"/sign-in?{urlencode({'next': place})}" if place else "/sign-in"
        shown: dict[str, Any] = {"email": email, "proof": proof, "action": action}
        return self.page(request, "sign_in", message=CODE_NEEDED, **shown)

    async def sign_out(self, request: Request) -> Response:
        """End this session; one that began by a provider may end there, too."""
        token = request_info.get().token
        provider = await sessions.provider_of(self.db, token) if self.providers else None
        await authentication.sign_out(self.db, token)
        response = redirect(f"/sign-in{f'?out={provider}' if provider else ''}", SIGNED_OUT)
        set_session_cookie(response, "")
        return response

    async def verified(self, form: FormData) -> VerifiedAccount:
        """Return whose password, and code if one is asked for, somebody has sent; in one step, or
        in two: then a proof stands for the password.

        Raises:
            As `authentication.check_credentials`; SetupFailed: the proof is too old.
        """
        code = text_of(form, "code")
        if proof := text_of(form, "proof"):
            return await authentication.check_code(self.factor, self.factor.proven(proof), code)
        email, password = text_of(form, "email"), text_of(form, "password")
        return await authentication.check_credentials(self.db, self.factor, email, password, code)

    def refused(
        self, show: Callable[..., Response], error: GroundworkError, form: FormData
    ) -> Response:
        """Return the page again, with what is wrong; whose password was right is asked for the code
        alone."""
        message, proof, email = str(error), text_of(form, "proof"), text_of(form, "email")
        if isinstance(error, CodeNeeded):
            message, proof = CODE_NEEDED, self.factor.proof(error.account)
        elif isinstance(error, SignInFailed):
            message = WRONG_CODE if proof else SIGN_IN_FAILED
        elif not isinstance(error, Throttled | Busy):
            proof = ""  # it is worth nothing any more
        if proof:
            email = self.factor.proven(proof).email
        return _refused(show, error, message, email=email, proof=proof)

    async def register(self, request: Request) -> Response:
        """Ask for an account."""
        show = partial(self.page, request, "register")
        if not self.registration:
            return show(403, message="Ask an administrator for an account.")
        if request.method != "POST":
            return show()
        form = await request.form(max_files=0, max_fields=20)
        typed = {name: text_of(form, name)[:255] for name in ("email", "display_name")}
        try:
            await registration.register(
                self.db,
                typed["email"],
                text_of(form, "password"),
                display_name=typed["display_name"] or None,
            )
        except (PasswordRefused, Throttled, Busy) as error:
            return _refused(show, error, str(error), **typed)
        except (asyncpg.CheckViolationError, asyncpg.DataError, UnicodeError):
            return show(422, message="This is not a valid e-mail address.", **typed)
        return show(done=True)

    def page(
        self, request: Request, name: str, status: int = 200, message: str = "", **more: Any
    ) -> Response:
        """Return a page with what its template needs always.

        Args:
            name: of the template, without its ending.
        """
        always = {
            "failed": status > 399,
            "registration": self.registration,
            "has_second_factors": self.factor.is_available,
            "providers": self.providers.values(),
            "has_mail": self.has_mail,
        }
        return render(request, f"{name}.html", status, message=message, **always, **more)


def text_of(form: FormData, name: str) -> str:
    """Return a field of a form; "" where there is none, or a file."""
    value = form.get(name)
    return value if isinstance(value, str) else ""


def _refused(
    show: Callable[..., Response], error: GroundworkError, message: str, **shown: Any
) -> Response:
    """Return the page again, with what is wrong."""
    response = show(error.status, message=message, **shown)
    if error.retry_after is not None:
        response.headers["retry-after"] = str(error.retry_after)
    return response
