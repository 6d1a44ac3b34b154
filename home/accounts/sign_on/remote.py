"""What an identity provider says, over HTTP: its description, its keys, and whom a code means.

OpenID Connect Discovery 1.0, RFC 6749, OpenID Connect Core 1.0. All that it says is bounded in time
and size, and no redirect is followed.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import quote

import httpx
from joserfc.errors import JoseError
from joserfc.jwk import Key, KeySet, import_key
from pydantic import TypeAdapter, ValidationError

from audit.errors import GroundworkError
from audit.log import Logger
from home.config.outgoing import trusted
from home.config.providers import Provider, is_secure_address

SECONDS = 8.0
MOST_BYTES = 512 * 1024
# A short text can be a long one, compressed.
PLAIN = {"accept": "application/json", "accept-encoding": "identity"}
MOST_KEYS = 100
AT_ONCE = 20  # requests to a provider
KEPT_SECONDS = 3600.0
FRESH_SECONDS = 1.0  # whoever is sent there finds it
KEYS_SECONDS = 30.0  # between two looks for a key that is not known

log = Logger("groundwork.sign_on")


class ProviderDown(GroundworkError):
    """The identity provider does not answer at the moment."""

    status, code = 503, "provider_unavailable"

    @property
    def retry_after(self) -> int:
        return 10


class ProviderRefused(GroundworkError):
    """The identity provider did not accept the code."""

    status, code = 401, "unauthorized"


class Metadata(NamedTuple):
    """What a provider says of itself.

    Args:
        tells_issuer: it sends `iss` with each code (RFC 9207).
        takes_basic: it takes the client's secret as HTTP Basic.
    """

    authorization: str
    token: str
    keys: str
    userinfo: str | None
    end_session: str | None
    tells_issuer: bool
    takes_basic: bool


OBJECT: TypeAdapter[dict[str, Any]] = TypeAdapter(dict[str, Any])


class Remote:
    """One provider. What it says of itself, and its keys, are kept for an hour."""

    def __init__(self, provider: Provider) -> None:
        self.provider = provider
        self._metadata: tuple[Metadata, float] | None = None
        self._keys: tuple[KeySet, float] | None = None
        self._looked_at = -KEYS_SECONDS  # for a key that was not known
        self._places = asyncio.Semaphore(AT_ONCE)
        self._asking: asyncio.Task[Metadata] | None = None

    async def metadata(self, age: float = KEPT_SECONDS) -> Metadata:
        """Return what the provider says of itself.

        Args:
            age: how many seconds ago it may have said so.

        Raises:
            ProviderDown: it does not, or not what can be used.
        """
        if self._metadata is not None and time.monotonic() - self._metadata[1] <= age:
            return self._metadata[0]
        if self._asking is None or self._asking.done():  # one asks for all who wait
            self._asking = asyncio.create_task(self._describe(), name="ask identity provider")
            self._asking.add_done_callback(lambda task: task.cancelled() or task.exception())
        return await asyncio.shield(self._asking)

    async def _describe(self) -> Metadata:
        issuer = self.provider.issuer
        address = f"{issuer.rstrip('/')}/.well-known/openid-configuration"
        found = await self._ask("GET", address)
        if found.get("issuer") != issuer:
            raise self._down("it calls itself otherwise than OIDC_..._ISSUER")
        metadata = self._read(found)
        self._metadata = metadata, time.monotonic()
        return metadata

    async def keys(self, key_id: str | None, *, anew: bool = False) -> KeySet:
        """Return the keys, fetched anew where this one is not among them: keys are rotated.

        Args:
            anew: also where it is, since a signature does not fit.

        Raises:
            ProviderDown: it does not tell them.
        """
        now = time.monotonic()
        if self._keys is not None and now - self._keys[1] < KEPT_SECONDS:
            known = self._keys[0]
            is_known = key_id in {key.kid for key in known.keys} and not anew
            if is_known or now - self._looked_at < KEYS_SECONDS:
                return known
            self._looked_at = now
        found = (await self._ask("GET", (await self.metadata()).keys)).get("keys")
        given = found[:MOST_KEYS] if isinstance(found, list) else []
        keys = KeySet([key for each in given if (key := _key(each)) is not None])
        if not keys.keys:
            raise self._down("it has no keys that can be used")
        self._keys = keys, now
        return keys

    async def exchange(self, code: str, verifier: str, redirect_uri: str) -> dict[str, Any]:
        """Return what the provider gives for a code: `id_token`, `access_token` and more.

        Raises:
            ProviderRefused: the code is none, or was used before.
            ProviderDown: it does not answer.
        """
        metadata = await self.metadata()
        id_, secret = self.provider.client_id, self.provider.client_secret.get_secret_value()
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "code_verifier": verifier,
            "redirect_uri": redirect_uri,
        }
        if metadata.takes_basic:  # RFC 6749, section 2.3.1
            basic = httpx.BasicAuth(quote(id_, safe=""), quote(secret, safe=""))
            return await self._ask("POST", metadata.token, data=form, auth=basic)
        form |= {"client_id": id_, "client_secret": secret}
        return await self._ask("POST", metadata.token, data=form)

    async def userinfo(self, access_token: str) -> dict[str, Any]:
        """Return more claims, or none where the provider has no place for them.

        Raises:
            ProviderRefused, ProviderDown.
        """
        address = (await self.metadata()).userinfo
        if address is None:
            return {}
        return await self._ask("GET", address, headers={"authorization": f"Bearer {access_token}"})

    async def _ask(self, method: str, address: str, **options: Any) -> dict[str, Any]:
        """Send a request; return the JSON object of its answer."""
        try:
            async with (
                asyncio.timeout(SECONDS),
                self._places,
                httpx.AsyncClient(verify=trusted(), timeout=SECONDS, headers=PLAIN) as client,
                client.stream(method, address, **options) as response,
            ):
                body = bytearray()
                if response.headers.get("content-encoding", "identity") != "identity":
                    raise self._down("its answer is compressed, although asked not to be")
                async for piece in response.aiter_raw():
                    body += piece
                    if len(body) > MOST_BYTES:
                        raise self._down("its answer is too long")
        except (httpx.HTTPError, httpx.InvalidURL, TimeoutError, OSError, UnicodeError) as error:
            raise self._down(type(error).__name__) from None
        if 400 <= response.status_code < 500 and method == "POST":
            raise ProviderRefused
        if response.status_code != 200:
            raise self._down(f"status {response.status_code}")
        try:
            return OBJECT.validate_json(bytes(body))
        except ValidationError:
            raise self._down("its answer is no JSON object") from None

    def _read(self, found: Mapping[str, Any]) -> Metadata:
        def address(name: str) -> str | None:
            value = found.get(name)
            return value if isinstance(value, str) and is_secure_address(value) else None

        needed = [address(f"{each}_endpoint") for each in ("authorization", "token")]
        keys = address("jwks_uri")
        if needed[0] is None or needed[1] is None or keys is None:
            raise self._down("its description lacks an address, or one is not https")
        methods = found.get("token_endpoint_auth_methods_supported")
        if not isinstance(methods, list) or not methods:
            methods = ["client_secret_basic"]
        return Metadata(
            needed[0],
            needed[1],
            keys,
            address("userinfo_endpoint"),
            address("end_session_endpoint"),
            tells_issuer=found.get("authorization_response_iss_parameter_supported") is True,
            takes_basic="client_secret_basic" in methods,
        )

    def _down(self, reason: str) -> ProviderDown:
        log.warning("provider_unavailable", provider=self.provider.name, reason=reason)
        return ProviderDown(f"{self.provider.shown} does not answer at the moment.")


def _key(given: object) -> Key | None:
    """Return a public key, or None where it is none that can be used (RFC 7517, section 5).

    Symmetric ones are no keys of a provider's: anybody could have read them here.
    """
    if not isinstance(given, dict) or given.get("kty") not in ("RSA", "EC"):
        return None
    try:
        return import_key(given)
    except (JoseError, ValueError, TypeError, KeyError):  # cryptography's own of odd numbers, too
        return None
