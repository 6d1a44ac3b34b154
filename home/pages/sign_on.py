"""`/sign-in/with/<provider>`: out to an identity provider, and back."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import urlencode

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from audit.errors import GroundworkError, Refused
from home.accounts import authentication, sessions
from home.accounts.authentication import CurrentPasswordWrong
from home.accounts.credentials import AccountDisabled, AwaitingApproval
from home.accounts.failures import TooManyFailures
from home.accounts.hashing_queue import Busy
from home.accounts.people import ids_of
from home.accounts.second_factor import SecondFactor
from home.accounts.sessions import SecondFactorMissing, SignedIn, request_info
from home.accounts.sign_on import attempts, identities, recent
from home.accounts.sign_on.flow import SignOn
from home.accounts.sign_on.id_tokens import WrongIdToken
from home.accounts.sign_on.identities import Identity, NoAccount
from home.accounts.sign_on.recent import SignOnTooOld
from home.accounts.sign_on.remote import ProviderDown, ProviderRefused, Remote
from home.accounts.throttle import Throttled
from home.accounts.verified_account import SignInRefused, VerifiedAccount
from home.database.engine import Engine
from home.web.cookies import set_session_cookie
from home.web.curl import own_address
from home.web.pages import Page, person_at
from home.web.people import Who
from home.web.redirects import ACCOUNT, SIGN_IN, local_path, redirect, start_of
from home.web.rendering import render

WITH = f"{SIGN_IN}/with/{{provider}}"
REFUSALS = (
    WrongIdToken,
    ProviderRefused,
    ProviderDown,
    NoAccount,
    AwaitingApproval,
    AccountDisabled,
    SignInRefused,
    SecondFactorMissing,
    TooManyFailures,
)
MUST_SET_UP = "Administrators need a second factor here. Set yours up, then sign in again."
LONGEST_PLACE = 500  # it travels in a cookie
AskForCode = Callable[[Request, str, str, str], Response]
SetUp = Callable[[Request, VerifiedAccount, str], Response]


class SignOnPages:
    """The handlers.

    Args:
        ask_for_code: answers with the page that asks for the code of a second factor alone.
        set_up: answers with the page on which a second factor is set up, and says why.
    """

    def __init__(
        self,
        db: Engine,
        sign_on: SignOn,
        factor: SecondFactor,
        ask_for_code: AskForCode,
        set_up: SetUp,
    ) -> None:
        self.db = db
        self.sign_on = sign_on
        self.factor = factor
        self.ask_for_code = ask_for_code
        self.set_up = set_up

    def pages(self) -> list[Page]:
        """Return the pages."""
        post = ["POST"]
        return [
            Page(WITH, self.leave, Who.ANYBODY),
            Page(f"{WITH}/callback", self.come_back, Who.ANYBODY),
            Page(f"{WITH}/logout", self.log_out, Who.ANYBODY, methods=post),
            Page(f"{WITH}/sign-out", self.sign_out, Who.ANYBODY),
            Page(f"{ACCOUNT}/identities/link", self.link, Who.MEMBERS, methods=post),
            Page(f"{ACCOUNT}/identities/unlink", self.unlink, Who.MEMBERS, methods=post),
        ]

    async def leave(self, request: Request) -> Response:
        """Send the browser to the provider."""
        place = local_path(request.query_params.get("next", "")[:LONGEST_PLACE])
        return await self._leave(request, self._remote(request), place)

    async def link(self, request: Request) -> Response:
        """Send who is signed in to a provider, to link it, once they have shown that it is them:
        whoever holds a session alone cannot open the account to themselves for good."""
        person: SignedIn = request.state.person
        form = await request.form()
        remote = self.sign_on.remotes.get(str(form.get("provider", "")))
        if remote is None:
            raise HTTPException(404, "There is no such identity provider.")
        try:
            await recent.confirm(self.db, person, str(form.get("password", "")))
        except (CurrentPasswordWrong, SignInRefused, SignOnTooOld, Throttled, Busy) as error:
            return redirect(ACCOUNT, str(error), failed=True)
        return await self._leave(request, remote, ACCOUNT, session=person.sid)

    async def come_back(self, request: Request) -> Response:
        """Begin a session for who comes back from a provider, or link it to who is signed in."""
        remote = self._remote(request)
        name = _cookie_name()
        try:
            attempt, identity = await self.sign_on.returned(
                remote,
                request.cookies.get(name, ""),
                request.query_params,
                _callback(request, remote),
            )
            if attempt.session:
                response = await self._linked(request, attempt, identity)
            else:
                response = await self._signed_in(request, attempt.place, identity)
        except REFUSALS as error:
            response = _refused(error)
        _set_cookie(response, "")
        return response

    async def log_out(self, request: Request) -> Response:
        """Take the provider's word that sessions are over."""
        remote = self._remote(request)
        form = await request.form(max_files=0, max_fields=10)
        await self.sign_on.log_out(remote, form.get("logout_token"))
        return Response(status_code=200)

    async def sign_out(self, request: Request) -> Response:
        """Send the browser to where its session at the provider ends."""
        remote = self._remote(request)
        back = own_address(request) + SIGN_IN
        try:
            end = (await remote.metadata()).end_session
        except ProviderDown as error:
            return _refused(error)
        if end is None:
            return redirect(SIGN_IN, f"Sign out at {remote.provider.shown} itself.")
        return RedirectResponse(attempts.end_address(end, remote.provider, back), 303)

    async def unlink(self, request: Request) -> Response:
        """Take an identity away from who is signed in."""
        person: SignedIn = request.state.person
        found = ids_of([str((await request.form()).get("identity", ""))])
        if found and await identities.remove(self.db, person.id, found[0], person.sid):
            return redirect(ACCOUNT, "It opens your account no more.")
        message = "It is unlinked already, or nothing else would let you in."
        return redirect(ACCOUNT, message, failed=True)

    async def _leave(
        self, request: Request, remote: Remote, place: str, session: str = ""
    ) -> Response:
        attempt = attempts.begin(remote.provider, place, session)
        try:
            address = await self.sign_on.leave(remote, attempt, _callback(request, remote))
        except ProviderDown as error:
            return _refused(error, ACCOUNT if session else SIGN_IN, place)
        if request.method == "POST":
            response = render(request, "onward.html", provider=remote.provider, address=address)
        else:
            response = RedirectResponse(address, 303)
        _set_cookie(response, attempts.sealed(attempt, remote.provider))
        return response

    async def _linked(
        self, request: Request, attempt: attempts.Attempt, identity: Identity
    ) -> Response:
        person = await person_at(request)
        try:
            await self.sign_on.link(attempt, identity, person)
        except Refused as error:
            return redirect(ACCOUNT if person else SIGN_IN, str(error), failed=True)
        return redirect(ACCOUNT, f"{identity.provider.shown} opens your account from now on.")

    async def _signed_in(self, request: Request, place: str, identity: Identity) -> Response:
        account = await self.sign_on.account(identity)
        if not account.has_factor and await self.factor.is_asked_of(account.user_id):
            proof = self.factor.proof(account)
            return self.ask_for_code(request, account.email, proof, place)
        try:
            cookies = await authentication.begin_session(self.db, account)
        except SecondFactorMissing:
            if await recent.is_passwordless(self.db, account):
                return self.set_up(request, account, MUST_SET_UP)
            raise
        person = await sessions.authenticate(self.db, cookies.session)
        response = redirect(place or (start_of(person) if person else ACCOUNT))
        set_session_cookie(response, cookies.session)
        return response

    def _remote(self, request: Request) -> Remote:
        remote = self.sign_on.remotes.get(request.path_params["provider"])
        if remote is None:
            raise HTTPException(404, "There is no such identity provider.")
        return remote


def _refused(error: GroundworkError, path: str = SIGN_IN, place: str = "") -> Response:
    """Lead back to where one signs in, and say why."""
    if place and path == SIGN_IN:
        path = f"{SIGN_IN}?{urlencode({'next': place})}"
    return redirect(path, str(error), failed=True)


def _callback(request: Request, remote: Remote) -> str:
    """Return the address that the provider knows as this client's."""
    return f"{own_address(request)}{SIGN_IN}/with/{remote.provider.name}/callback"


def _cookie_name() -> str:
    return "__Host-sign-on" if request_info.get().is_secure else "sign-on"


def _set_cookie(response: Response, value: str) -> None:
    response.set_cookie(
        _cookie_name(), value, attempts.SECONDS if value else 0,
        httponly=True, samesite="lax", secure=request_info.get().is_secure,
    )  # fmt: skip
