"""Signing in by an identity provider: out to it, and back with a code.

OpenID Connect Core 1.0 (code flow) with PKCE, and RFC 9207 against a mix-up of providers.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from typing import NoReturn

from audit.errors import GroundworkError, Refused
from audit.record import record
from home.accounts.failures import RecentFailures
from home.accounts.sessions import SignedIn
from home.accounts.sign_on import attempts, id_tokens, identities
from home.accounts.sign_on.attempts import Attempt
from home.accounts.sign_on.id_tokens import WrongIdToken
from home.accounts.sign_on.identities import Identity, NoAccount, identity_of
from home.accounts.sign_on.remote import FRESH_SECONDS, ProviderRefused, Remote
from home.accounts.verified_account import VerifiedAccount
from home.config.providers import Provider
from home.database.engine import Engine

VERSION = "SELECT credentials_version FROM users WHERE id = $1"

failures = RecentFailures()


class SignOn:
    """The providers, and what is done with them."""

    def __init__(self, db: Engine, providers: tuple[Provider, ...], registration: bool) -> None:
        self.db = db
        self.registration = registration
        self.remotes = {provider.name: Remote(provider) for provider in providers}

    async def leave(self, remote: Remote, attempt: Attempt, redirect_uri: str) -> str:
        """Return where the browser goes with an attempt.

        Raises:
            remote.ProviderDown: the provider does not answer.
        """
        metadata = await remote.metadata(FRESH_SECONDS)
        return attempts.address(attempt, remote.provider, metadata, redirect_uri)

    async def returned(
        self, remote: Remote, cookie: str, query: Mapping[str, str], redirect_uri: str
    ) -> tuple[Attempt, Identity]:
        """Return who comes back from a provider, and from which attempt.

        Raises:
            WrongIdToken, remote.ProviderRefused: it is not to be trusted; this was recorded.
            remote.ProviderDown: the provider does not answer.
            failures.TooManyFailures: as did too many others.
        """
        try:
            attempt = attempts.opened(cookie, remote.provider)
            return attempt, await self._identity(remote, attempt, query, redirect_uri)
        except (WrongIdToken, ProviderRefused) as error:
            await self.refuse(remote.provider, error)

    async def account(self, identity: Identity) -> VerifiedAccount:
        """Return the account that an identity opens.

        Raises:
            As `identities.account_for`; NoAccount was recorded.
        """
        try:
            return await identities.account_for(self.db, identity, self.registration)
        except NoAccount as error:
            await self.refuse(identity.provider, error)

    async def link(self, attempt: Attempt, identity: Identity, person: SignedIn | None) -> None:
        """Link an identity to who is signed in, in the session that asked for it.

        Raises:
            Refused: it is another session, or the identity opens another account.
        """
        if person is None or person.sid != attempt.session:
            raise Refused("Your session has ended meanwhile. Sign in, and link it again.")
        version = await self.db.fetchval(VERSION, person.id)
        await identities.link(self.db, identity, person.id, version)

    async def log_out(self, remote: Remote, token: object) -> int:
        """End the sessions that a provider says are over (Back-Channel Logout 1.0).

        Raises:
            WrongIdToken: the token is not to be trusted; this was recorded.
            remote.ProviderDown: its key cannot be asked for.
        """
        try:
            over = await id_tokens.logged_out(remote, token)
        except WrongIdToken as error:
            await self.refuse(remote.provider, error)
        return await identities.end_sessions(self.db, remote.provider, over)

    async def refuse(self, provider: Provider, error: GroundworkError) -> NoReturn:
        """Record why somebody is not let in, and raise it.

        Raises:
            failures.TooManyFailures: instead, where this address has failed too often.
        """
        reason = getattr(error, "reason", "code")
        details = {"reason": reason, "network": failures.count()}
        await record(self.db, "identity.refused", "identity", provider.name, details)
        raise error

    async def _identity(
        self, remote: Remote, attempt: Attempt, query: Mapping[str, str], redirect_uri: str
    ) -> Identity:
        state = query.get("state", "").encode("utf-8", "replace")
        if not hmac.compare_digest(state, attempt.state.encode()):
            raise WrongIdToken("state")
        metadata = await remote.metadata()
        if query.get("iss", None if metadata.tells_issuer else remote.provider.issuer) != (
            remote.provider.issuer
        ):
            raise WrongIdToken("mixed_up")
        if "error" in query or not query.get("code"):
            raise WrongIdToken("refused_there")
        given = await remote.exchange(query["code"], attempt.verifier, redirect_uri)
        claims = await id_tokens.claims_of(remote, given.get("id_token"), attempt.nonce)
        access_token = given.get("access_token")
        if "email" not in claims and isinstance(access_token, str):
            more = await remote.userinfo(access_token)
            if more and more.get("sub") != claims["sub"]:
                raise WrongIdToken("userinfo")
            claims = {**more, **claims}
        return identity_of(remote.provider, claims)
