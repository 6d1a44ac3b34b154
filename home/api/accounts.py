"""`/api/`: people and their own things. Bodies and answers are JSON, errors as everywhere."""

from __future__ import annotations

import json
from functools import partial
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from home.accounts import authentication, preferences, profile, registration, sessions
from home.accounts.authentication import Cookies
from home.accounts.profile import Profile
from home.accounts.second_factor import SecondFactor
from home.accounts.sessions import SignedIn, request_info
from home.api.models import (
    ChangePassword,
    JsonObject,
    Me,
    Message,
    ProfileOut,
    Register,
    Sessions,
    SessionsEnded,
    SignIn,
    Token,
)
from home.database.engine import Engine
from home.services import Services
from home.web.bodies import NO_STORE, answer, body_of
from home.web.cookies import set_device_cookie, set_session_cookie
from home.web.openapi import Operation
from home.web.people import bearer_token, checked_token, csrf_token, person_of


def operations(services: Services) -> list[Operation]:
    """Return what people can do with their own account."""
    settings = services.settings
    return Api(services.db, SecondFactor.of(services), settings.registration).operations()


class Api:
    """The handlers. Those of a person find out by `person_of` who asks."""

    def __init__(self, db: Engine, factor: SecondFactor, registration: bool) -> None:
        self.db = db
        self.factor = factor
        self.registration = registration

    def operations(self) -> list[Operation]:
        """Return what people can do with their own account."""
        return [*self._of_accounts(), *self._of_preferences(), *self._of_sessions()]

    def _of_accounts(self) -> list[Operation]:
        anybody = partial(Operation, signed_in=False)
        return [
            Operation("GET", "/api/me", self.me, "The own profile.", answer=Me),
            Operation("PATCH", "/api/me", self.change_me, "Change it.", Profile, ProfileOut),
            Operation(
                "POST", "/api/me/password", self.change_password,
                "Change the own password. All sessions end, and this one begins anew.",
                ChangePassword, Token, errors=(429,), scope="",
            ),
            anybody(
                "POST", "/api/sign-in", self.sign_in,
                "Begin a session: sets its cookie. Code is of the second factor, if there is one.",
                SignIn, Token, errors=(401, 429),
            ),
            Operation(
                "POST", "/api/sign-out", self.sign_out, "End this session.", status=204,
                scope="",
            ),
            anybody(
                "POST", "/api/register", self.register,
                "Ask for an account, to be approved. A taken address gets the same answer.",
                Register, Message, 202, errors=(409, 429),
            ),
        ]  # fmt: skip

    def _of_preferences(self) -> list[Operation]:
        of = partial(Operation, path="/api/me/preferences", answer=JsonObject, etag=True)
        return [
            of("GET", handler=self.preferences, summary="The own preferences."),
            of(
                "PUT", handler=self.replace_preferences, body=JsonObject,
                summary="Replace them.",
            ),
            of(
                "PATCH", handler=self.merge_preferences, body=JsonObject,
                summary="Merge a JSON merge patch (RFC 7396) into them.",
            ),
        ]  # fmt: skip

    def _of_sessions(self) -> list[Operation]:
        of = partial(Operation, scope="")
        path = "/api/me/sessions"
        return [
            of("GET", path, self.sessions, "The own sessions.", answer=Sessions),
            of(
                "DELETE", path, self.end_other_sessions, "End all but this one.",
                answer=SessionsEnded,
            ),
            of("DELETE", path + "/{sid}", self.end_session, "End one.", status=204, errors=(404,)),
        ]  # fmt: skip

    async def me(self, request: Request) -> Response:
        person = await person_of(request)
        return answer(_profile(person) | {"csrf_token": csrf_token(request_info.get().token)})

    async def change_me(self, request: Request) -> Response:
        values = await body_of(request, Profile)
        person = await person_of(request)
        return answer(_profile(person) | await profile.change(person.id, values))

    async def change_password(self, request: Request) -> Response:
        body = await body_of(request, ChangePassword)
        person = await person_of(request)
        return _with_session(
            await authentication.change_password(self.db, person, body.old, body.new)
        )

    async def preferences(self, request: Request) -> Response:
        person = await person_of(request)
        return _stored(await preferences.read(self.db, person.id))

    async def replace_preferences(self, request: Request) -> Response:
        content = (await body_of(request, JsonObject)).root
        etag = _if_match(request)
        if bearer_token(request) is None:
            sid = sessions.digest(checked_token(request))
            if stored := await preferences.replace_own(self.db, sid, content, etag):
                return _stored(stored)
        person = await person_of(request)
        return _stored(await preferences.replace(self.db, person.id, content, etag))

    async def merge_preferences(self, request: Request) -> Response:
        patch = (await body_of(request, JsonObject)).root
        person = await person_of(request)
        return _stored(await preferences.merge(self.db, person.id, patch, _if_match(request)))

    async def sessions(self, request: Request) -> Response:
        person = await person_of(request)
        rows = await sessions.list_of(self.db, person.id)
        return answer({"sessions": [_session(row, person) for row in rows]})

    async def end_session(self, request: Request) -> Response:
        person = await person_of(request)
        if not await sessions.end_one(self.db, person.id, request.path_params["sid"]):
            raise HTTPException(404, "You have no such session.")
        return Response(status_code=204)

    async def end_other_sessions(self, request: Request) -> Response:
        person = await person_of(request)
        ended = await sessions.end_others(self.db, person.id, person.sid)
        return answer({"ended": ended})

    async def sign_in(self, request: Request) -> Response:
        body = await body_of(request, SignIn)
        return _with_session(
            await authentication.sign_in(self.db, self.factor, body.email, body.password, body.code)
        )

    async def sign_out(self, request: Request) -> Response:
        await person_of(request)
        await authentication.sign_out(self.db, request_info.get().token)
        response = Response(status_code=204)
        set_session_cookie(response, "")
        return response

    async def register(self, request: Request) -> Response:
        if not self.registration:
            raise HTTPException(403, "Ask an administrator for an account.")
        body = await body_of(request, Register)
        await registration.register(self.db, **body.model_dump())
        message = "If the address is new, an administrator has been asked to let you in."
        return answer({"message": message}, 202)


def _with_session(cookies: Cookies) -> Response:
    response = answer({"csrf_token": csrf_token(cookies.session)})
    set_session_cookie(response, cookies.session)
    set_device_cookie(response, cookies.device)
    return response


def _profile(person: SignedIn) -> dict[str, Any]:
    return {
        "id": person.id,
        "email": person.email,
        "display_name": person.display_name,
        "organization": person.organization,
        "is_admin": person.is_admin,
        "is_superuser": person.is_superuser,
        "is_auditor": person.is_auditor,
    }


def _session(row: dict[str, Any], person: SignedIn) -> dict[str, Any]:
    times = {
        name: row[name] and row[name].isoformat()
        for name in ("created_at", "last_seen_at", "expire")
    }
    sess = json.loads(row["sess"])
    sess = sess if isinstance(sess, dict) else {}
    device = {name: sess.get(name) for name in ("user_agent", "ip_address")}
    return {"id": row["sid"], "is_this_one": row["sid"] == person.sid, **device, **times}


def _if_match(request: Request) -> str | None:
    """Return the version that the caller knows; RFC 9110, section 13.1.1: `*` is any."""
    given = request.headers.get("if-match", "*").strip()
    return None if given == "*" else given.removeprefix("W/").strip('"')


def _stored(found: preferences.Preferences) -> Response:
    headers = {"etag": f'"{found.etag}"', **NO_STORE}
    return Response(found.text, media_type="application/json", headers=headers)
