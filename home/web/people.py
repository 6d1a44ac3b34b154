"""Who asks? What every page, operation and form of a person begins with."""

from __future__ import annotations

import hashlib
import hmac
from enum import StrEnum
from typing import cast

from starlette.exceptions import HTTPException
from starlette.requests import Request

from home.accounts import sessions
from home.accounts.sessions import SignedIn, request_info
from home.services import Services

CSRF_HEADER = "x-csrf-token"
SAFE = ("GET", "HEAD")


class Who(StrEnum):
    """The people who may use something."""

    ANYBODY = "anybody"
    MEMBERS = "members"  # whoever is signed in
    READERS = "administrators and auditors"  # of the trail, people and runs
    ADMINISTRATORS = "administrators"
    SUPERUSERS = "superusers"

    def includes(self, person: SignedIn | None) -> bool:
        """Return whether a person, or somebody who is not signed in, is among them."""
        if person is None:
            return self is Who.ANYBODY
        match self:
            case Who.ANYBODY | Who.MEMBERS:
                return True
            case Who.READERS:
                return person.is_admin or person.is_auditor
            case Who.ADMINISTRATORS:
                return person.is_admin
            case Who.SUPERUSERS:
                return person.is_superuser


def services_of(request: Request) -> Services:
    """Return the services of the application that answers a request."""
    return cast(Services, request.app.state.services)


def csrf_token(token: str) -> str:
    """Return what pages of this site read of a session, and pages of other sites cannot."""
    return hashlib.sha256(f"csrf of {token}".encode()).hexdigest()


def checked_token(request: Request) -> str:
    """Return the session's token; to change something, a request must also know its CSRF token.

    Raises:
        HTTPException: 401 without a session, 403 without its CSRF token.
    """
    token = request_info.get().token
    if not token:
        raise HTTPException(401, "Sign in first.")
    if request.method not in SAFE:
        check_csrf(request.headers.get(CSRF_HEADER, ""), token)
    return token


def check_csrf(given: str, token: str) -> None:
    """Refuse a change that does not know the CSRF token of its session.

    Raises:
        HTTPException: 403.
    """
    if not knows_csrf_token(given, token):
        raise HTTPException(403, f"Send the csrf_token of GET /api/me as {CSRF_HEADER}.")


def knows_csrf_token(given: str, token: str) -> bool:
    """Return whether this is the CSRF token of a session."""
    return hmac.compare_digest(given.encode("utf-8", "replace"), csrf_token(token).encode())


def bearer_token(request: Request) -> str | None:
    """Return the token that a program sends (RFC 6750, section 2.1); None where it sends none."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return token.strip(" ") if scheme.lower() == "bearer" else None


async def person_of(request: Request, who: Who = Who.MEMBERS) -> SignedIn:
    """Return who asks: whose session the cookie opens, or for whom a program does by a token.

    With the cookie unsafe methods also need the session's CSRF token; with a token, which no
    browser sends by itself, cookies do not count.

    Raises:
        HTTPException: 401 where nobody is signed in, 403 where it is not for this person, or not
            within the token's scopes.
        failures.TooManyFailures: the token opens nothing, as did too many others.
    """
    if (token := bearer_token(request)) is not None:
        person: SignedIn | None = await _holder_of(request, token)
    else:
        person = await sessions.authenticate(services_of(request).db, checked_token(request))
    if person is None:
        raise HTTPException(401, "Sign in first.")
    if not who.includes(person):
        raise HTTPException(403, f"This is for {who} only.")
    return person


async def _holder_of(request: Request, token: str) -> SignedIn:
    services, scope = services_of(request), getattr(request.state, "token_scope", None)
    if not services.settings.api_tokens:
        raise HTTPException(401, "API tokens are not in use here: sign in.")
    from home.accounts import tokens

    try:
        holder = await tokens.authenticate(services.db, token)
    except tokens.WrongToken as error:
        challenge = 'Bearer error="invalid_token"'
        raise HTTPException(401, str(error), {"www-authenticate": challenge}) from None
    if scope is None:
        raise HTTPException(403, "This needs somebody who is signed in; a token does not do.")
    if scope not in holder.scopes:
        await tokens.refuse(services.db, scope)
        challenge = f'Bearer error="insufficient_scope", scope="{scope}"'
        message = f"This token lacks the scope {scope}."
        raise HTTPException(403, message, {"www-authenticate": challenge})
    return holder.person
