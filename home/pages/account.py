"""`/account`: what people see and change of their own account. Every action is a form."""

from __future__ import annotations

import json
from collections.abc import Sequence
from tempfile import SpooledTemporaryFile
from typing import IO, Any

from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from audit.errors import GroundworkError
from home.accounts import authentication, own_data, own_history, profile, sessions
from home.accounts.authentication import CurrentPasswordWrong
from home.accounts.hashing_queue import Busy
from home.accounts.passwords import MIN_LENGTH, MIN_LENGTH_ADMIN, PasswordRefused
from home.accounts.profile import Profile
from home.accounts.second_factor import SecondFactor
from home.accounts.sessions import SignedIn
from home.accounts.sign_on import recent
from home.accounts.throttle import Throttled
from home.accounts.verified_account import SignInRefused
from home.config.providers import Provider
from home.database.engine import Engine
from home.pages import browsers, happened
from home.tables import User
from home.web.cookies import set_device_cookie, set_session_cookie
from home.web.pages import Page
from home.web.people import Who
from home.web.redirects import ACCOUNT, redirect
from home.web.rendering import NO_STORE, render
from home.web.words import plural

IN_MEMORY = 1024 * 1024  # bytes of a download; what is longer goes to a file
PIECE = 64 * 1024
NOT_TWICE = "The new password was typed in two ways. Type it again."
NAME_REFUSED = "A name has at most 255 characters, and none that control something."


class AccountPages:
    """The handlers; each acts on the account of who asks, and on no other.

    Args:
        has_tokens: whether programs may come with tokens.
        providers: of identities, which may be linked.
        has_mail: whether links are mailed, by which one changes one's address.
    """

    def __init__(
        self,
        db: Engine,
        factor: SecondFactor,
        has_tokens: bool,
        providers: Sequence[Provider] = (),
        has_mail: bool = False,
    ) -> None:
        self.db = db
        self.factor = factor
        self.has_tokens = has_tokens
        self.providers = providers
        self.has_mail = has_mail

    def pages(self) -> list[Page]:
        """Return the pages; all are for whoever is signed in."""
        actions = {
            "profile": self.change_profile,
            "password": self.change_password,
            "sessions/end": self.end_session,
            "sessions/end-others": self.end_other_sessions,
        }
        return [
            Page(ACCOUNT, self.show, Who.MEMBERS),
            Page(f"{ACCOUNT}/data.json", self.download, Who.MEMBERS),
            *(
                Page(f"{ACCOUNT}/{path}", view, Who.MEMBERS, methods=["POST"])
                for path, view in actions.items()
            ),
        ]

    async def show(
        self,
        request: Request,
        status: int = 200,
        refused: str = "",
        message: str = "",
        made_token: str = "",
        **typed: Any,
    ) -> Response:
        """Show the page.

        Args:
            refused: the form that was refused, and `message` why; `typed` is what was typed.
            made_token: a new token of a program, which is told this once.
        """
        person: SignedIn = request.state.person
        devices = await sessions.list_of(self.db, person.id)
        rows = await own_history.newest(self.db, person.id, person.email)
        account = await User.select(User.created_at).where(User.id == person.id).first()
        linked = await self._identities(person) if self.providers else []
        passwordless = await recent.passwordless(self.db, person.sid) if self.providers else None
        return render(
            request,
            "account.html",
            status,
            refused=refused,
            message=message,
            typed=person._asdict() | typed,
            passwordless=passwordless,
            identities=linked,
            providers=self.providers,
            has_mail=self.has_mail,
            made_token=made_token,
            tokens=await tokens_of(self.db, person.id) if self.has_tokens else None,
            account=account,
            least=MIN_LENGTH_ADMIN if person.is_admin else MIN_LENGTH,
            sessions=[shown_session(row, person) for row in devices],
            history=[happened.in_words(row, person.id) for row in rows],
            has_second_factors=self.factor.is_available,
            has_second_factor=await self.factor.is_asked_of(person.id),
        )

    async def _identities(self, person: SignedIn) -> list[dict[str, Any]]:
        from home.accounts.sign_on import identities

        shown = {provider.name: provider.shown for provider in self.providers}
        rows = await identities.list_of(self.db, person.id)
        return [{**row, "shown": shown.get(row["provider"], row["provider"])} for row in rows]

    async def change_profile(self, request: Request) -> Response:
        """Store name and organization."""
        form = await request.form()
        typed = {name: str(form.get(name, "")).strip() for name in Profile.model_fields}
        try:
            values = Profile(**{name: value or None for name, value in typed.items()})
        except ValidationError:
            return await self.show(request, 422, "profile", NAME_REFUSED, **typed)
        await profile.change(request.state.person.id, values)
        return redirect(ACCOUNT, "Saved.")

    async def change_password(self, request: Request) -> Response:
        """Change the password, which ends all other sessions."""
        form = await request.form()
        old, new, again = (str(form.get(name, "")) for name in ("old", "new", "again"))
        if new != again:
            return await self.show(request, 422, "password", NOT_TWICE)
        try:
            cookies = await authentication.change_password(self.db, request.state.person, old, new)
        except (CurrentPasswordWrong, PasswordRefused, SignInRefused, Throttled, Busy) as error:
            return await self._refused(request, error)
        message = "Your password is changed. All your other devices have been signed out."
        response = redirect(ACCOUNT, message)
        set_session_cookie(response, cookies.session)
        set_device_cookie(response, cookies.device)
        return response

    async def _refused(self, request: Request, error: GroundworkError) -> Response:
        response = await self.show(request, error.status, "password", str(error))
        if error.retry_after is not None:
            response.headers["retry-after"] = str(error.retry_after)
        return response

    async def end_session(self, request: Request) -> Response:
        """End one session; whoever ends the one they are in is signed out."""
        person: SignedIn = request.state.person
        sid = str((await request.form()).get("session", ""))
        if not await sessions.end_one(self.db, person.id, sid):
            return redirect(ACCOUNT, "This session has ended already.", failed=True)
        return redirect(ACCOUNT, "The session has ended.")

    async def end_other_sessions(self, request: Request) -> Response:
        """End all sessions but this one."""
        person: SignedIn = request.state.person
        ended = await sessions.end_others(self.db, person.id, person.sid)
        return redirect(ACCOUNT, f"Ended {plural(ended, 'other session')}.")

    async def download(self, request: Request) -> Response:
        """Answer with everything that is stored about who asks, as a file."""
        person: SignedIn = request.state.person
        if request.method == "HEAD":
            raise HTTPException(405, headers={"allow": "GET"})
        file: IO[bytes] = SpooledTemporaryFile(IN_MEMORY)  # noqa: SIM115  closed when it is sent
        async for piece in own_data.everything(self.db, person.id, person.email):
            file.write(piece)
        name = {"content-disposition": 'attachment; filename="account.json"'}
        return StreamingResponse(
            _pieces(file), media_type="application/json", headers=NO_STORE | name
        )


async def tokens_of(db: Engine, user_id: int) -> list[dict[str, Any]]:
    """Return the tokens of an account, where there are tokens at all."""
    from home.accounts import tokens

    return await tokens.list_of(db, user_id)


def shown_session(row: dict[str, Any], person: SignedIn) -> dict[str, Any]:
    """Return a session as it is shown; other programs may keep anything in its `sess`."""
    sess = json.loads(row["sess"])
    known = sess if isinstance(sess, dict) else {}
    agent, address = known.get("user_agent"), known.get("ip_address")
    return {
        **row,
        "device": browsers.in_words(agent if isinstance(agent, str) else None),
        "address": address if isinstance(address, str) else None,
        "is_this_one": row["sid"] == person.sid,
    }


def _pieces(file: IO[bytes]) -> Any:
    with file:
        file.seek(0)
        while piece := file.read(PIECE):
            yield piece
