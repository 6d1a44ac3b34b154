"""Tokens that an identity provider signed: whom they are about, and whether they are for us.

OpenID Connect Core 1.0, section 3.1.3.7; for logout tokens Back-Channel Logout 1.0, section 2.6.
"""

from __future__ import annotations

import time
from typing import Any

from joserfc import jws, jwt
from joserfc.errors import JoseError

from audit.errors import GroundworkError
from home.accounts.sign_on.remote import Remote

# Signed with the provider's own key: `none` proves nothing, and HS* could be signed by whoever
# takes its public key for a secret.
ALGORITHMS = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512"]
LEEWAY_SECONDS = 60
LONGEST = 64 * 1024
LONGEST_NAME = 255
LOGOUT_EVENT = "http://schemas.openid.net/event/backchannel-logout"
LOGOUT_SECONDS = 300  # how old a logout token may be


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


async def logged_out(remote: Remote, token: object) -> dict[str, Any]:
    """Return what a logout token says: `sub`, `sid`, or both.

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
    if "sid" not in claims:
        _check_subject(claims)
    return claims


async def _verified(remote: Remote, token: object) -> dict[str, Any]:
    """Return the claims of a token that is signed by the provider, for us, and good now."""
    if not isinstance(token, str) or len(token) > LONGEST:
        raise WrongIdToken("no_token")
    try:
        header = jws.extract_compact(token.encode()).headers()
    except (JoseError, ValueError):
        raise WrongIdToken("no_token") from None
    if header.get("alg") not in ALGORITHMS:
        raise WrongIdToken("alg")
    keys = await remote.keys(header.get("kid"))
    provider = remote.provider
    try:
        claims = jwt.decode(token, keys, ALGORITHMS).claims
        jwt.JWTClaimsRegistry(
            leeway=LEEWAY_SECONDS,
            iss={"essential": True, "value": provider.issuer},
            aud={"essential": True, "value": provider.client_id},
            exp={"essential": True},
            iat={"essential": True},
        ).validate(claims)
    except JoseError as error:
        raise WrongIdToken(str(getattr(error, "claim", None) or error.error)) from None
    except (ValueError, TypeError):
        raise WrongIdToken("no_token") from None
    audience = claims["aud"]
    others = isinstance(audience, list) and len(audience) > 1
    if claims.get("azp", provider.client_id if not others else None) != provider.client_id:
        raise WrongIdToken("azp")
    return claims


def _check_subject(claims: dict[str, Any]) -> None:
    subject = claims.get("sub")
    if not is_name(subject):
        raise WrongIdToken("sub")


def is_name(text: object) -> bool:
    """Return whether it can be what a provider calls somebody, or a session of theirs."""
    return isinstance(text, str) and text.isprintable() and 0 < len(text) <= LONGEST_NAME
