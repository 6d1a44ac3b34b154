"""Tokens that an identity provider signed: whom they are about, and whether they are for us.

OpenID Connect Core 1.0, section 3.1.3.7; for logout tokens Back-Channel Logout 1.0, section 2.6.
"""

from __future__ import annotations

import time
from base64 import urlsafe_b64decode
from typing import Any, NamedTuple

from joserfc import jwt
from joserfc.errors import BadSignatureError, JoseError
from pydantic import BaseModel

from audit.errors import GroundworkError
from home.accounts.sign_on.remote import OBJECT, Remote

# Signed with the provider's own key: `none` proves nothing, and HS* could be signed by whoever
# takes its public key for a secret.
ALGORITHMS = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512"]
LEEWAY_SECONDS = 60
LONGEST = 64 * 1024
LONGEST_NAME = 255
LOGOUT_EVENT = "http://schemas.openid.net/event/backchannel-logout"
LOGOUT_SECONDS = 300  # how old a logout token may be
LATEST = 10**12  # seconds since the epoch


class Header(BaseModel):
    """The part of a token's header that counts here."""

    alg: str
    kid: str | None = None


class LoggedOut(NamedTuple):
    """Whose sessions are over at a provider.

    Args:
        subject: the person; None is whoever has the session `sid` there.
        until: seconds since the epoch; sessions that began later stay.
    """

    subject: str | None
    sid: str | None
    until: float


class WrongIdToken(GroundworkError):
    """This sign-in cannot be trusted. Try again.

    Args:
        reason: what is wrong, for the trail.
    """

    status, code = 401, "unauthorized"

    def __init__(self, reason: str) -> None:
        super().__init__()
        self.reason = reason


async def claims_of(remote: Remote, token: object, nonce: str) -> dict[str, Any]:
    """Return what an ID token says.

    Args:
        nonce: of the attempt that it answers.

    Raises:
        WrongIdToken: it is none, or for somebody else, or for another attempt, or too old.
        remote.ProviderDown: its key cannot be asked for.
    """
    claims = await _verified(remote, token)
    if claims.get("nonce") != nonce:
        raise WrongIdToken("nonce")
    _check_subject(claims)
    return claims


async def logged_out(remote: Remote, token: object) -> LoggedOut:
    """Return whose sessions a logout token ends.

    Raises:
        As `claims_of`.
    """
    claims = await _verified(remote, token)
    events = claims.get("events")
    if not isinstance(events, dict) or not isinstance(events.get(LOGOUT_EVENT), dict):
        raise WrongIdToken("events")
    if "nonce" in claims or not isinstance(claims.get("jti"), str):
        raise WrongIdToken("no_logout_token")
    if time.time() - claims["iat"] > LOGOUT_SECONDS:
        raise WrongIdToken("iat")
    subject, sid = claims.get("sub"), claims.get("sid")
    if subject is None and sid is None:
        raise WrongIdToken("sub")
    for each in (subject, sid):
        if each is not None and not is_name(each):
            raise WrongIdToken("sub")
    return LoggedOut(subject, sid, float(claims["iat"]) + LEEWAY_SECONDS)


async def _verified(remote: Remote, token: object) -> dict[str, Any]:
    """Return the claims of a token that is signed by the provider, for us, and good now."""
    header = _header_of(token)
    assert isinstance(token, str)  # it has a header
    if header.alg not in ALGORITHMS:
        raise WrongIdToken("alg")
    claims = await _signed(remote, token, header.kid)
    provider = remote.provider
    times = [claims.get(name, 0) for name in ("exp", "iat", "nbf")]
    if not all(isinstance(each, int | float) and abs(each) < LATEST for each in times):
        raise WrongIdToken("exp")
    try:
        jwt.JWTClaimsRegistry(
            leeway=LEEWAY_SECONDS,
            iss={"essential": True, "value": provider.issuer},
            aud={"essential": True, "value": provider.client_id},
            exp={"essential": True},
            iat={"essential": True},
        ).validate(claims)
    except JoseError as error:
        raise WrongIdToken(str(getattr(error, "claim", None) or error.error)) from None
    audience = claims["aud"]
    others = isinstance(audience, list) and len(audience) > 1
    if claims.get("azp", provider.client_id if not others else None) != provider.client_id:
        raise WrongIdToken("azp")
    return claims


def _header_of(token: object) -> Header:
    """Return the header of a token of three parts whose payload is a JSON object, too: that is read
    with a bound on its depth, which the library's own reader does not have."""
    try:
        if not isinstance(token, str) or len(token) > LONGEST:
            raise ValueError
        header, payload, _ = (urlsafe_b64decode(part + "==") for part in token.split("."))
        OBJECT.validate_json(payload)
        return Header.model_validate_json(header)
    except ValueError:  # pydantic's and base64's errors are ones
        raise WrongIdToken("no_token") from None


async def _signed(remote: Remote, token: str, key_id: str | None) -> dict[str, Any]:
    """Return the claims of a token that a key of the provider fits; a key may have been replaced
    under its old name."""
    for anew in (False, True):
        try:
            keys = await remote.keys(key_id, anew=anew)
            return jwt.decode(token, keys, ALGORITHMS).claims
        except BadSignatureError as error:
            if anew:
                raise WrongIdToken(error.error) from None
        except JoseError as error:
            raise WrongIdToken(error.error) from None
        except (ValueError, TypeError):  # of a key of another kind
            raise WrongIdToken("no_token") from None
    raise AssertionError  # the second time returns or raises


def _check_subject(claims: dict[str, Any]) -> None:
    subject = claims.get("sub")
    if not is_name(subject):
        raise WrongIdToken("sub")


def is_name(text: object) -> bool:
    """Return whether it can be what a provider calls somebody, or a session of theirs."""
    return isinstance(text, str) and text.isprintable() and 0 < len(text) <= LONGEST_NAME
