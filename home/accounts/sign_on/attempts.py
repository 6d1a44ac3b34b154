"""An attempt to sign in by a provider, between leaving for it and coming back.

It travels in a cookie that the browser can neither read nor change: nothing is stored, so that
nobody can fill a table with attempts.
"""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import time
from typing import NamedTuple
from urllib.parse import urlencode

from piccolo_api.encryption.providers import XChaCha20Provider

from home.accounts.sign_on.id_tokens import WrongIdToken
from home.accounts.sign_on.remote import Metadata
from home.config.providers import Provider

SECONDS = 600


class Attempt(NamedTuple):
    """What was asked of a provider.

    Args:
        state: comes back with the code.
        nonce: comes back in the ID token.
        verifier: shows the provider that whoever brings the code is who asked for it (RFC 7636).
        place: where the person wants to go.
        session: the digest of the session that links the provider to its account; "" signs in.
        until: seconds since the epoch.
    """

    provider: str
    state: str
    nonce: str
    verifier: str
    place: str
    session: str
    until: float


def begin(provider: Provider, place: str, session: str = "") -> Attempt:
    """Return a new attempt."""
    state, nonce, verifier = (secrets.token_urlsafe(32) for _ in range(3))
    return Attempt(provider.name, state, nonce, verifier, place, session, time.time() + SECONDS)


def address(attempt: Attempt, provider: Provider, metadata: Metadata, redirect_uri: str) -> str:
    """Return where the browser is sent."""
    challenge = hashlib.sha256(attempt.verifier.encode()).digest()
    query = {
        "response_type": "code",
        "client_id": provider.client_id,
        "redirect_uri": redirect_uri,
        "scope": " ".join(provider.scopes),
        "state": attempt.state,
        "nonce": attempt.nonce,
        "code_challenge": base64.urlsafe_b64encode(challenge).decode().rstrip("="),
        "code_challenge_method": "S256",
    }
    if provider.second_factor:
        query["acr_values"] = " ".join(provider.second_factor)
    separator = "&" if "?" in metadata.authorization else "?"
    return metadata.authorization + separator + urlencode(query)


def end_address(end: str, provider: Provider, redirect_uri: str) -> str:
    """Return where a person's session at the provider ends (RP-Initiated Logout 1.0)."""
    query = {"client_id": provider.client_id, "post_logout_redirect_uri": redirect_uri}
    return f"{end}{'&' if '?' in end else '?'}{urlencode(query)}"


def sealed(attempt: Attempt, provider: Provider) -> str:
    """Return an attempt as a cookie's value."""
    return _encryption(provider).encrypt(json.dumps(attempt), add_prefix=False)


def opened(text: str, provider: Provider) -> Attempt:
    """Return the attempt that a cookie holds.

    Raises:
        WrongIdToken: it holds none of this provider, or took too long.
    """
    try:
        attempt = Attempt(*json.loads(_encryption(provider).decrypt(text, has_prefix=False)))
    except Exception:  # pynacl's own, ValueError ...: none of ours
        raise WrongIdToken("no_attempt") from None
    if attempt.provider != provider.name:
        raise WrongIdToken("no_attempt")
    if not 0 <= attempt.until - time.time() <= SECONDS:  # or its clock was ahead
        raise WrongIdToken("too_late")
    return attempt


def _encryption(provider: Provider) -> XChaCha20Provider:
    secret = provider.client_secret.get_secret_value()
    return XChaCha20Provider(hashlib.sha256(f"attempt {provider.name} {secret}".encode()).digest())
