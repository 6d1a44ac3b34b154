"""Signing in by an identity provider: what is believed of it, and what is not.

The provider here is one that lies. An honest one, and a browser, are in tests/browser.
"""

from __future__ import annotations

import asyncio
import base64
import hmac
import json
import re
import time
from collections.abc import AsyncIterator, Callable
from html import unescape
from typing import Any, cast
from urllib.parse import parse_qs, urlsplit

import httpx
import pyotp
import pytest
from joserfc import jwt
from joserfc.jwk import RSAKey
from pydantic import SecretStr

from audit.tables import AuditLog
from home.accounts import sessions
from home.accounts.authenticator import AuthenticatorSecret
from home.accounts.sign_on import attempts, flow
from home.accounts.sign_on.id_tokens import LOGOUT_EVENT
from home.accounts.sign_on.remote import ProviderDown, ProviderRefused, Remote
from home.accounts.tables import Identity
from home.accounts.verified_account import SignInRefused, VerifiedAccount
from home.config.providers import Provider, Role
from home.database.engine import Engine
from home.tables import Session, User
from home.web.people import csrf_token
from tests.conftest import PASSWORD, browser, client_with, enter

pytestmark = pytest.mark.any_version

ISSUER = "https://id.example.com"
KEYS = [RSAKey.generate_key(2048, {"kid": f"key {n}"}, private=True) for n in range(2)]


def provider(**more: Any) -> Provider:
    secret = SecretStr("the client's secret")
    return Provider(
        **({"name": "acme", "issuer": ISSUER, "client_id": "us", "client_secret": secret} | more)
    )


class Liar:
    """A provider that says what a test wants it to say."""

    def __init__(self) -> None:
        self.claims: dict[str, Any] = {}
        self.header: dict[str, Any] = {}
        self.key: Any = KEYS[0]
        self.keys = [KEYS[0]]
        self.metadata: dict[str, Any] = {}
        self.userinfo: dict[str, Any] = {}
        self.nonce = ""
        self.is_down = False
        self.pause = 0.0
        self.codes = {"good"}
        self.asked: list[str] = []
        self.sign: Callable[[dict[str, Any]], str] = self.signed

    def signed(self, claims: dict[str, Any]) -> str:
        header = {"alg": "RS256", "kid": self.key.kid} | self.header
        return jwt.encode(header, claims, self.key, [header["alg"]])

    def token(self) -> str:
        now = int(time.time())
        usual = {
            "iss": ISSUER, "aud": "us", "sub": "grace at acme", "iat": now, "exp": now + 60,
            "nonce": self.nonce, "email": "grace@example.com", "email_verified": True,
            "name": "Grace Hopper", "sid": "session 1",
        }  # fmt: skip
        found = {k: v for k, v in (usual | self.claims).items() if v is not None}
        return self.sign(found)

    async def answer(self, remote: Remote, method: str, address: str, **sent: Any) -> Any:
        self.asked.append(address)
        await asyncio.sleep(self.pause)
        if self.is_down:
            raise ProviderDown("Acme does not answer at the moment.")
        match urlsplit(address).path:
            case "/.well-known/openid-configuration":
                endpoints = {
                    f"{each}_endpoint": f"{ISSUER}/{each}"
                    for each in ("authorization", "token", "userinfo", "end_session")
                }
                keys = {"issuer": ISSUER, "jwks_uri": f"{ISSUER}/keys"}
                return endpoints | keys | self.metadata
            case "/keys":
                return {"keys": [key.as_dict(private=False) for key in self.keys]}
            case "/userinfo":
                return self.userinfo
            case "/token":
                if sent["data"]["code"] not in self.codes:
                    raise ProviderRefused
                self.codes.discard(sent["data"]["code"])
                assert sent["data"]["code_verifier"]
                return {"id_token": self.token(), "access_token": "x"}
            case other:
                raise AssertionError(other)


@pytest.fixture
async def acme(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Liar]:
    liar = Liar()

    async def ask(remote: Remote, method: str, address: str, **sent: Any) -> Any:
        return await liar.answer(remote, method, address, **sent)

    monkeypatch.setattr(Remote, "_ask", ask)
    flow.failures.clear()
    yield liar
    flow.failures.clear()


@pytest.fixture
async def client(acme: Liar, url: str) -> AsyncIterator[httpx.AsyncClient]:
    async with client_with(identity_providers=(provider(),)) as client:
        yield client


async def leave(client: httpx.AsyncClient, acme: Liar, query: str = "") -> dict[str, str]:
    """Go to the provider; return what it was asked."""
    answer = await client.get(f"/sign-in/with/acme{query}")
    assert answer.status_code == 303, answer.text
    asked = parse_qs(urlsplit(answer.headers["location"]).query)
    acme.nonce = asked["nonce"][0]
    return {name: values[0] for name, values in asked.items()}


async def back(client: httpx.AsyncClient, **query: str) -> httpx.Response:
    return await client.get("/sign-in/with/acme/callback", params=query)


async def round_trip(client: httpx.AsyncClient, acme: Liar, query: str = "") -> httpx.Response:
    asked = await leave(client, acme, query)
    acme.codes.add("good")
    return await back(client, code="good", state=asked["state"])


async def approve(email: str = "grace@example.com") -> None:
    await User.update({User.is_approved: True}).where(User.email == email)


async def told(client: httpx.AsyncClient, answer: httpx.Response) -> str:
    """What the page says that an answer leads to."""
    return (await client.get(answer.headers["location"])).text


async def refusals() -> list[str]:
    rows = await AuditLog.raw(
        "SELECT details ->> 'reason' AS reason FROM audit_logs"
        " WHERE action = 'identity.refused' ORDER BY id"
    )
    return [row["reason"] for row in rows]


async def is_in(client: httpx.AsyncClient) -> bool:
    return (await client.get("/api/me")).status_code == 200


async def test_who_is_new_waits_is_approved_and_comes_in(
    client: httpx.AsyncClient, acme: Liar, db: Engine
) -> None:
    answer = await round_trip(client, acme)
    assert "waits for approval" in await told(client, answer)
    assert not await is_in(client)
    user = await User.objects().where(User.email == "grace@example.com").first()
    assert user is not None
    assert (user.display_name, user.password_hash, user.is_approved) == ("Grace Hopper", "", False)
    made = await db.fetchval("SELECT actor FROM audit_logs WHERE action = 'users.insert'")
    assert made == "provider:acme"
    await approve()
    answer = await round_trip(client, acme, "?next=/account%23sessions")
    assert answer.headers["location"] == "/account#sessions"
    assert await is_in(client)
    assert await Identity.count() == await User.count() == 1
    details = await db.fetchval("SELECT details FROM audit_logs WHERE action = 'sign_in.succeeded'")
    assert json.loads(details) == {"provider": "acme"}


async def test_what_the_provider_is_asked(client: httpx.AsyncClient, acme: Liar) -> None:
    asked = await leave(client, acme)
    assert asked["redirect_uri"] == "http://test/sign-in/with/acme/callback"
    assert (asked["response_type"], asked["code_challenge_method"]) == ("code", "S256")
    assert asked["scope"] == "openid email profile"
    cookie = client.cookies["sign-on"]
    for secret in ("state", "nonce"):
        assert asked[secret] not in cookie


def encoded(part: bytes) -> bytes:
    return base64.urlsafe_b64encode(part).rstrip(b"=")


def signed_with_public_key(claims: dict[str, Any]) -> str:
    """HS256 with the provider's public key, which everybody knows, as the secret."""
    header = {"alg": "HS256", "kid": KEYS[0].kid}
    text = encoded(json.dumps(header).encode()) + b"." + encoded(json.dumps(claims).encode())
    signature = hmac.digest(KEYS[0].as_pem(private=False), text, "sha256")
    return (text + b"." + encoded(signature)).decode()


def unsigned(claims: dict[str, Any]) -> str:
    parts = [json.dumps(each).encode() for each in ({"alg": "none"}, claims)]
    return (b".".join(map(encoded, parts)) + b".").decode()


@pytest.mark.parametrize(
    ("lie", "reason"),
    [
        ({"claims": {"nonce": "another"}}, "nonce"),
        ({"claims": {"nonce": None}}, "nonce"),
        ({"claims": {"aud": "somebody else"}}, "aud"),
        ({"claims": {"aud": None}}, "aud"),
        ({"claims": {"aud": ["us", "others"]}}, "azp"),
        ({"claims": {"azp": "others"}}, "azp"),
        ({"claims": {"iss": "https://other.example.com"}}, "iss"),
        ({"claims": {"iss": f"{ISSUER}/"}}, "iss"),
        ({"claims": {"exp": 1}}, "exp"),
        ({"claims": {"exp": None}}, "exp"),
        ({"claims": {"exp": "tomorrow"}}, "exp"),
        ({"claims": {"iat": int(time.time()) + 3600}}, "iat"),
        ({"claims": {"nbf": int(time.time()) + 3600}}, "nbf"),
        ({"claims": {"sub": None}}, "sub"),
        ({"claims": {"sub": ""}}, "sub"),
        ({"claims": {"sub": "x" * 256}}, "sub"),
        ({"claims": {"sub": 7}}, "sub"),
        ({"claims": {"sub": "a\0b"}}, "sub"),
        ({"sign": unsigned}, "alg"),
        ({"sign": signed_with_public_key}, "alg"),
        ({"sign": lambda claims: "no token"}, "no_token"),
        ({"sign": lambda claims: None}, "no_token"),
        ({"sign": lambda claims: "x" * 100_000}, "no_token"),
        ({"key": KEYS[1], "header": {"kid": KEYS[0].kid}}, "bad_signature"),
        ({"key": KEYS[1]}, "invalid_key_id"),
    ],
)
async def test_a_token_that_is_not_for_us_now_opens_nothing(
    client: httpx.AsyncClient, acme: Liar, db: Engine, lie: dict[str, Any], reason: str
) -> None:
    for name, value in lie.items():
        setattr(acme, name, value)
    answer = await round_trip(client, acme)
    assert "cannot be trusted" in await told(client, answer)
    assert await refusals() == [reason]
    assert not await User.exists()


async def test_an_honest_one_within_a_minute_of_our_clock(
    client: httpx.AsyncClient, acme: Liar
) -> None:
    now = int(time.time())
    for claims in ({"exp": now - 50}, {"iat": now + 50, "exp": now + 100}):
        acme.claims = claims
        await round_trip(client, acme)
    assert await User.count() == 1


async def test_keys_are_rotated(client: httpx.AsyncClient, acme: Liar) -> None:
    await round_trip(client, acme)
    await approve()
    acme.key, acme.keys = KEYS[1], KEYS
    await round_trip(client, acme)
    assert await is_in(client)
    before = acme.asked.count(f"{ISSUER}/keys")
    await round_trip(client, acme)
    assert acme.asked.count(f"{ISSUER}/keys") == before  # it is known now


async def test_unknown_keys_do_not_make_us_ask_for_ever(
    client: httpx.AsyncClient, acme: Liar
) -> None:
    await round_trip(client, acme)
    acme.key = KEYS[1]
    for _ in range(5):
        await round_trip(client, acme)
    assert acme.asked.count(f"{ISSUER}/keys") == 2


async def test_a_way_back_works_once_and_in_its_own_browser(
    client: httpx.AsyncClient, acme: Liar, db: Engine
) -> None:
    asked = await leave(client, acme)
    cookie = client.cookies["sign-on"]
    await back(client, code="good", state=asked["state"])
    assert "sign-on" not in client.cookies
    await back(client, code="good", state=asked["state"])  # replayed
    client.cookies["sign-on"] = cookie  # with what somebody kept
    await back(client, code="good", state=asked["state"])
    client.cookies.pop("sign-on")
    await leave(client, acme)
    await back(client, code="good", state=asked["state"])  # of another attempt
    client.cookies["sign-on"] = cookie[:-4] + "0000"
    await back(client, code="good", state=asked["state"])
    assert await refusals() == ["no_attempt", "code", "state", "no_attempt"]
    assert await User.count() == 1


async def test_an_attempt_has_its_time(client: httpx.AsyncClient, acme: Liar, db: Engine) -> None:
    asked = await leave(client, acme)
    attempt = attempts.opened(client.cookies["sign-on"], provider())
    for until in (time.time() - 1, time.time() + attempts.SECONDS + 60):  # or a clock was ahead
        client.cookies["sign-on"] = attempts.sealed(attempt._replace(until=until), provider())
        await back(client, code="good", state=asked["state"])
        client.cookies.clear()
    assert await refusals() == ["too_late", "too_late"]


async def test_providers_are_not_mixed_up(acme: Liar, url: str) -> None:
    both = (provider(), provider(name="other", client_id="them"))
    async with client_with(identity_providers=both) as client:
        asked = await leave(client, acme)
        elsewhere = {"code": "good", "state": asked["state"]}
        await client.get("/sign-in/with/other/callback", params=elsewhere)
        asked = await leave(client, acme)
        await back(client, code="good", state=asked["state"], iss="https://other.example.com")
        acme.metadata = {"authorization_response_iss_parameter_supported": True}
    async with client_with(identity_providers=both) as client:
        asked = await leave(client, acme)
        await back(client, code="good", state=asked["state"])  # and says no issuer
        assert await refusals() == ["no_attempt", "mixed_up", "mixed_up"]
        assert not await User.exists()


async def test_an_address_opens_nothing_by_itself(
    client: httpx.AsyncClient, acme: Liar, db: Engine, administrator: User
) -> None:
    acme.claims = {"email": administrator.email}
    answer = await round_trip(client, acme)
    assert "account with this address already" in await told(client, answer)
    acme.claims["email_verified"] = False  # whoever does not own it is not told so
    answer = await round_trip(client, acme)
    assert "has not verified your e-mail address" in await told(client, answer)
    assert await refusals() == ["address_taken", "email_not_verified"]
    assert not await is_in(client)
    assert not await Identity.exists()


@pytest.mark.parametrize(
    "email", [None, 7, "", "no address", "x" * 300 + "@example.com", "a\0@example.com"]
)
async def test_without_an_address_there_is_no_account(
    client: httpx.AsyncClient, acme: Liar, email: object
) -> None:
    acme.claims = {"email": email}
    answer = await round_trip(client, acme)
    assert answer.status_code == 303
    assert not await User.exists() or (await User.select(User.email).first()) == {"email": email}


async def test_an_address_that_is_trusted_links(acme: Liar, url: str, member: User) -> None:
    async with client_with(identity_providers=(provider(links_by_email=True),)) as client:
        acme.claims = {"email": "MEL@example.com", "email_verified": False}
        await round_trip(client, acme)
        assert not await is_in(client)
        acme.claims["email_verified"] = True
        await round_trip(client, acme)
        assert (await client.get("/api/me")).json()["id"] == member.id


async def test_claims_that_come_apart_are_of_the_same_person(
    client: httpx.AsyncClient, acme: Liar, db: Engine
) -> None:
    acme.claims = {"email": None}
    acme.userinfo = {"sub": "another", "email": "x@example.com", "email_verified": True}
    await round_trip(client, acme)
    assert await refusals() == ["userinfo"]
    acme.userinfo["sub"] = "grace at acme"
    await round_trip(client, acme)
    assert await User.exists().where(User.email == "x@example.com")


async def test_a_service_account_is_opened_by_nobody(acme: Liar, url: str) -> None:
    await User.store("grace@example.com", "", is_service=True, is_approved=True)
    async with client_with(identity_providers=(provider(links_by_email=True),)) as client:
        await round_trip(client, acme)
        assert not await is_in(client)
        assert not await Identity.exists()


async def test_clerk_ids_are_read_of_whom_it_is_said(acme: Liar, url: str, member: User) -> None:
    await User.update({User.clerk_id: "user_1"}).where(User.id == member.id)
    acme.claims = {"sub": "user_1", "email": "elsewhere@example.com"}
    async with client_with(identity_providers=(provider(clerk=True),)) as client:
        await round_trip(client, acme)
        assert (await client.get("/api/me")).json()["id"] == member.id


ROLES = (Role("groups", "admins", "admin"), Role("groups", "audit", "auditor"))


async def test_roles_follow_claims_and_nobody_becomes_a_superuser(acme: Liar, url: str) -> None:
    trusted = provider(approves=True, roles=ROLES)
    async with client_with(identity_providers=(trusted,), registration=False) as client:
        for groups, rights in (
            (["admins", "superusers"], (True, False)),
            (["audit"], (False, True)),
            ("admins", (True, False)),
            ([], (False, False)),
            (None, (False, False)),
        ):
            acme.claims = {"groups": groups, "is_superuser": True}
            await round_trip(client, acme)
            me = (await client.get("/api/me")).json()
            assert (me["is_admin"], me["is_auditor"]) == rights, groups
            assert not me["is_superuser"]
        by = await AuditLog.select(AuditLog.actor).where(AuditLog.action == "users.update")
        assert {row["actor"] for row in by} == {"provider:acme"}


async def test_a_superuser_stays_one_whatever_claims_say(
    acme: Liar, url: str, administrator: User
) -> None:
    trusted = provider(links_by_email=True, roles=ROLES)
    acme.claims = {"email": administrator.email, "groups": []}
    async with client_with(identity_providers=(trusted,)) as client:
        await round_trip(client, acme)
        me = (await client.get("/api/me")).json()
        assert (me["is_admin"], me["is_superuser"]) == (True, True)


async def test_who_is_disabled_stays_out(client: httpx.AsyncClient, acme: Liar) -> None:
    await round_trip(client, acme)
    await approve()
    await User.update({User.is_disabled: True}).where(User.email == "grace@example.com")
    answer = await round_trip(client, acme)
    assert "is disabled" in await told(client, answer)
    assert not await is_in(client)


async def test_registration_may_be_closed(acme: Liar, url: str) -> None:
    async with client_with(identity_providers=(provider(),), registration=False) as client:
        answer = await round_trip(client, acme)
        assert "Ask an administrator" in await told(client, answer)
        assert await refusals() == ["registration_closed"]


async def test_a_provider_that_is_down_stops_nobody_else(
    client: httpx.AsyncClient, acme: Liar, member: User
) -> None:
    acme.is_down = True
    answer = await client.get("/sign-in/with/acme?next=/account")
    assert answer.headers["location"] == "/sign-in?next=%2Faccount"
    page = await told(client, answer)
    assert "does not answer" in page
    assert "Password" in page
    await enter(client, member.email)
    assert await is_in(client)


async def test_many_who_leave_at_once_ask_a_slow_provider_once(
    client: httpx.AsyncClient, acme: Liar
) -> None:
    acme.pause = 0.1
    found = await asyncio.gather(*(client.get("/sign-in/with/acme") for _ in range(30)))
    assert {answer.status_code for answer in found} == {303}
    assert len(acme.asked) == 1
    acme.is_down = True
    await asyncio.sleep(1.1)
    found = await asyncio.gather(*(client.get("/sign-in/with/acme") for _ in range(30)))
    assert {answer.headers["location"] for answer in found} == {"/sign-in"}
    assert len(acme.asked) == 2


@pytest.mark.parametrize(
    "header",
    [["alg"], "alg", 7, {"alg": 7}, {"alg": "RS256", "kid": ["k"]}, {"alg": "RS256", "kid": {}}],
)
async def test_nonsense_in_place_of_a_token_is_refused(
    client: httpx.AsyncClient, acme: Liar, header: object
) -> None:
    await round_trip(client, acme)  # keys are known now
    text = (encoded(json.dumps(header).encode()) + b".e30.eA").decode()
    answer = await client.post("/sign-in/with/acme/logout", data={"logout_token": text})
    assert answer.status_code == 401


@pytest.mark.parametrize(
    "claims",
    [
        {"acr": ["mfa"]}, {"acr": {"a": 1}}, {"amr": [["mfa"]]}, {"amr": [{"a": 1}]}, {"amr": 7},
        {"name": ["Grace"]}, {"sid": 7}, {"email": ["a@b.c"]}, {"groups": {"admins": True}},
    ],
)  # fmt: skip
async def test_claims_of_another_type_are_none(
    acme: Liar, url: str, claims: dict[str, Any]
) -> None:
    trusted = provider(approves=True, second_factor=("mfa",), roles=ROLES)
    acme.claims = claims
    async with client_with(identity_providers=(trusted,)) as client:
        answer = await round_trip(client, acme)
        assert answer.status_code == 303
        if "email" not in claims:
            assert not (await client.get("/api/me")).json()["is_admin"]


@pytest.mark.parametrize("claims", [{"iat": -(10**400)}, {"exp": 10**400}, {"nbf": 10**30}])
async def test_times_have_an_end(
    client: httpx.AsyncClient, acme: Liar, claims: dict[str, Any]
) -> None:
    acme.claims = claims
    await round_trip(client, acme)
    assert await refusals() == ["exp"]


async def test_a_claim_has_an_end_in_depth(client: httpx.AsyncClient, acme: Liar) -> None:
    deep = json.loads("[" * 900 + "]" * 900)
    acme.claims = {"deep": deep}
    await round_trip(client, acme)
    assert await refusals() == ["no_token"]


@pytest.mark.parametrize("methods", [5, True, "x", {}, [], None])
async def test_a_description_of_another_type_is_none(
    client: httpx.AsyncClient, acme: Liar, methods: object
) -> None:
    acme.metadata = {"token_endpoint_auth_methods_supported": methods}
    assert (await client.get("/sign-in/with/acme")).headers["location"].startswith(ISSUER)


async def test_of_several_who_come_first_at_once_one_account_is_made(acme: Liar, url: str) -> None:
    async with client_with(identity_providers=(provider(approves=True),)) as client:
        app = client._transport.app  # type: ignore[attr-defined]
        others = [browser(app) for _ in range(6)]
        acme.codes = {str(n) for n in range(6)}
        asked = [await leave(other, acme) for other in others]
        acme.sign = lambda claims: acme.signed(claims | {"nonce": nonces.pop()})
        nonces = [each["nonce"] for each in asked][:1]
        [answer] = [await back(others[0], code="0", state=asked[0]["state"])]
        assert answer.status_code == 303
        nonces = [each["nonce"] for each in asked][1:]

        async def come(number: int) -> None:
            await back(others[number], code=str(number), state=asked[number]["state"])

        await asyncio.gather(*(come(number) for number in range(1, 6)))
        for other in others:
            await other.aclose()
        assert await User.count() == 1
        assert await Identity.count() == 1


async def test_a_pending_account_is_taken_over_by_whose_address_it_is(acme: Liar, url: str) -> None:
    """Whoever asked for it before, with a password of theirs, is not let in."""
    trusted = provider(links_by_email=True, approves=True)
    async with client_with(identity_providers=(trusted,)) as client:
        body = {"email": "grace@example.com", "password": PASSWORD}
        await client.post("/api/register", json=body)
        await round_trip(client, acme)
        assert await is_in(client)
        client.cookies.clear()
        assert (await client.post("/api/sign-in", json=body)).status_code == 401


@pytest.mark.parametrize(
    ("email", "verified"),
    [
        ("\uff41da@example.com", True),
        ("ada\uff20example.com", True),
        ("ada@example\uff0ecom", True),
        (" ada@example.com", True),
        ("ada@example.com", 1),
        ("ada@example.com", 1.0),
    ],
)
async def test_an_address_that_only_becomes_the_same_is_another(
    acme: Liar, url: str, administrator: User, email: str, verified: object
) -> None:
    acme.claims = {"email": email, "email_verified": verified}
    async with client_with(identity_providers=(provider(links_by_email=True),)) as client:
        await round_trip(client, acme)
        assert not await is_in(client)
        assert not await Identity.exists()


async def test_who_is_unlinked_meanwhile_does_not_come_in(
    acme: Liar, url: str, member: User
) -> None:
    """The password, and the code, of before are worth nothing without the identity."""
    async with client_with(identity_providers=(provider(),)) as client:
        await round_trip(client, acme)
        await approve()
        user = await User.objects().where(User.email == "grace@example.com").first()
        assert user is not None
        db = cast(Engine, User._meta.db)
        account = VerifiedAccount(user.id, user.email, 1, provider="acme")
        await Identity.delete(force=True)
        with pytest.raises(SignInRefused):
            await sessions.create(db, account)


@pytest.mark.parametrize("wanted", ["https://evil.example.com", "//evil.example.com", "/\\evil"])
async def test_nobody_is_sent_to_another_site(
    client: httpx.AsyncClient, acme: Liar, wanted: str
) -> None:
    await round_trip(client, acme)
    await approve()
    answer = await round_trip(client, acme, f"?next={wanted}")
    assert answer.headers["location"] == "/account"


async def post(client: httpx.AsyncClient, path: str, **fields: object) -> httpx.Response:
    fields["csrf_token"] = csrf_token(client.cookies["id"])
    return await client.post(path, data=fields, headers={"origin": "http://test"})


async def test_a_provider_is_linked_by_who_is_signed_in_and_knows_the_password(
    client: httpx.AsyncClient, acme: Liar, member: User
) -> None:
    await enter(client, member.email)
    wrong = await post(client, "/account/identities/link", provider="acme", password="wrong")
    assert "current password is wrong" in await told(client, wrong)
    assert (await client.post("/account/identities/link")).status_code == 403
    answer = await post(client, "/account/identities/link", provider="acme", password=PASSWORD)
    [address] = re.findall(r'href="(https://id[^"]+)"', answer.text)
    asked = parse_qs(urlsplit(unescape(address)).query)
    acme.nonce = asked["nonce"][0]
    linked = await back(client, code="good", state=asked["state"][0])
    assert "opens your account" in await told(client, linked)
    await client.post("/api/sign-out")
    client.cookies.clear()
    await round_trip(client, acme)
    assert (await client.get("/api/me")).json()["id"] == member.id
    page = (await client.get("/account")).text
    assert "grace@example.com" in page
    [identity] = await Identity.select(Identity.id)
    await post(client, "/account/identities/unlink", identity=identity["id"])
    assert not await Identity.exists()
    assert await is_in(client)


async def test_an_identity_is_not_linked_for_another_session(
    client: httpx.AsyncClient, acme: Liar, member: User, administrator: User
) -> None:
    """Whoever is made to follow the end of somebody else's attempt links nothing."""
    await enter(client, member.email)
    answer = await post(client, "/account/identities/link", provider="acme", password=PASSWORD)
    [address] = re.findall(r'href="(https://id[^"]+)"', answer.text)
    asked = parse_qs(urlsplit(unescape(address)).query)
    acme.nonce = asked["nonce"][0]
    await enter(client, administrator.email)
    linked = await back(client, code="good", state=asked["state"][0])
    assert "session has ended meanwhile" in await told(client, linked)
    assert not await Identity.exists()


async def test_the_only_way_in_is_not_unlinked(client: httpx.AsyncClient, acme: Liar) -> None:
    await round_trip(client, acme)
    await approve()
    await round_trip(client, acme)
    [identity] = await Identity.select(Identity.id)
    answer = await post(client, "/account/identities/unlink", identity=identity["id"])
    assert "nothing else would let you in" in await told(client, answer)
    assert await Identity.exists()


async def test_the_provider_signs_people_out(
    client: httpx.AsyncClient, acme: Liar, db: Engine
) -> None:
    await round_trip(client, acme)
    await approve()
    await round_trip(client, acme)
    now = int(time.time())
    good = {
        "iss": ISSUER, "aud": "us", "iat": now, "exp": now + 60, "jti": "1", "sid": "session 1",
        "sub": "grace at acme", "events": {LOGOUT_EVENT: {}},
    }  # fmt: skip

    async def log_out(**changed: Any) -> int:
        claims = {k: v for k, v in (good | changed).items() if v != ...}
        data = {"logout_token": acme.signed(claims)}
        return (await client.post("/sign-in/with/acme/logout", data=data)).status_code

    lies: list[dict[str, Any]] = [
        {"events": {}}, {"events": ...}, {"nonce": "x"}, {"jti": ...}, {"aud": "others"},
        {"iss": "https://other.example.com"}, {"iat": now - 3600}, {"exp": now - 3600},
        {"sid": None, "sub": None}, {"sid": 7}, {"sid": ["session 1"]}, {"sub": "a\0b"},
        {"sid": "a\0b"},
    ]  # fmt: skip
    for wrong in lies:
        assert await log_out(**wrong) == 401, wrong
    assert (await client.post("/sign-in/with/acme/logout")).status_code == 401
    assert len(await refusals()) == 14
    assert await log_out(sid="of another session") == 200
    assert await is_in(client)
    assert await log_out() == 200
    assert not await is_in(client)
    await round_trip(client, acme)
    assert await log_out(sid=...) == 200  # all of them
    assert not await Session.exists()


async def test_the_second_factor_is_asked_for_unless_the_provider_did(
    acme: Liar, url: str, administrator: User
) -> None:
    trusted = provider(links_by_email=True, second_factor=("mfa",))
    acme.claims = {"email": administrator.email}
    settings: dict[str, Any] = {"mfa_required": True, "mfa_key": SecretStr("k" * 32)}
    async with client_with(identity_providers=(trusted,), **settings) as client:
        answer = await round_trip(client, acme)
        assert "need a second factor" in await told(client, answer)
        acme.claims["amr"] = ["pwd", "mfa"]
        await round_trip(client, acme)
        assert await is_in(client)


async def test_failures_are_recorded_up_to_a_point(
    client: httpx.AsyncClient, acme: Liar, db: Engine
) -> None:
    for _ in range(30):
        answer = await back(client, code="x", state="x")
    assert "Too many attempts" in await told(client, answer)
    assert len(await refusals()) == 20


async def test_without_a_setting_nothing_of_it_is_there(url: str) -> None:
    async with client_with() as client:
        assert (await client.get("/sign-in/with/acme")).status_code == 404
        assert "Sign in with" not in (await client.get("/sign-in")).text


KEY: dict[str, Any] = {"mfa_key": SecretStr("k" * 32)}
BEGIN = {"by_provider": "yes"}


def shown_in(page: httpx.Response, name: str) -> str:
    """A hidden field of a page."""
    found = re.search(f'name="{name}" value="([^"]+)"', page.text)
    assert found is not None, page.text
    return found[1]


def confirmation(page: httpx.Response) -> tuple[dict[str, str], pyotp.TOTP]:
    """What confirms the second factor that a page shows, and the app that has it."""
    key = re.search(r"<code>([A-Z2-7]{32})</code>", page.text)
    assert key is not None, page.text
    app = pyotp.TOTP(key[1])
    return {"setup": shown_in(page, "setup"), "code": app.at(int(time.time()) - 30)}, app


@pytest.fixture
async def grace(acme: Liar, url: str) -> AsyncIterator[httpx.AsyncClient]:
    """The browser of Grace, who has no password and has just signed in by Acme."""
    async with client_with(identity_providers=(provider(approves=True),), **KEY) as client:
        await round_trip(client, acme)
        assert await is_in(client)
        yield client


async def refused_to_begin(client: httpx.AsyncClient) -> bool:
    answer = await client.post("/second-factor", data=BEGIN)
    assert not await AuthenticatorSecret.exists()
    return answer.status_code == 403 and "identity provider again" in answer.text


async def test_who_has_no_password_and_has_just_signed_in_sets_up_a_second_factor(
    grace: httpx.AsyncClient, acme: Liar
) -> None:
    page = await grace.get("/second-factor")
    assert ('type="password"' in page.text, shown_in(page, "by_provider")) == (False, "yes")
    assert "your identity provider alone" in (await grace.get("/account")).text
    form, app = confirmation(await grace.post("/second-factor", data=BEGIN))
    done = await grace.post("/second-factor", data=form)
    assert len(re.findall("<li><code>", done.text)) == 8
    assert not await is_in(grace)
    asked = await round_trip(grace, acme, "?next=/second-factor")
    answer = {"proof": shown_in(asked, "proof"), "code": app.now()}
    assert (await grace.post("/sign-in", data=answer)).status_code == 303
    assert await is_in(grace)


async def test_an_old_session_alone_changes_nothing_that_lasts(
    grace: httpx.AsyncClient, acme: Liar, db: Engine
) -> None:
    await db.execute("UPDATE sessions SET created_at = now() - interval '11 minutes'")
    assert await refused_to_begin(grace)
    again = "/sign-in/with/acme?next="
    assert f"{again}/second-factor" in (await grace.get("/second-factor")).text
    assert f"{again}/account" in (await grace.get("/account")).text
    answer = await post(grace, "/account/identities/link", provider="acme")
    assert "identity provider again" in await told(grace, answer)
    assert (await round_trip(grace, acme, "?next=/second-factor")).headers["location"] == (
        "/second-factor"
    )
    confirmation(await grace.post("/second-factor", data=BEGIN))
    answer = await post(grace, "/account/identities/link", provider="acme")
    assert answer.status_code == 200


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE sessions SET sess = '{}'",
        "UPDATE sessions SET sess = '[]'",
        'UPDATE sessions SET sess = \'{"provider": "other"}\'',
        "DELETE FROM identities",
        "DELETE FROM sessions",
        "UPDATE users SET is_service = true",
        "UPDATE sessions SET expire = now()",
    ],
)
async def test_it_takes_a_session_that_began_by_what_opens_the_account(
    grace: httpx.AsyncClient, db: Engine, change: str
) -> None:
    await db.execute(change)
    assert await refused_to_begin(grace)


async def test_who_has_a_password_needs_it(
    grace: httpx.AsyncClient, acme: Liar, member: User, db: Engine
) -> None:
    await db.execute("UPDATE identities SET user_id = $1", member.id)
    await round_trip(grace, acme)
    assert (await grace.get("/api/me")).json()["id"] == member.id
    assert 'type="password"' in (await grace.get("/second-factor")).text
    assert await refused_to_begin(grace)
    by_password = {"email": member.email, "password": PASSWORD}
    form, app = confirmation(await grace.post("/second-factor", data=by_password))
    await grace.post("/second-factor", data=form)
    proof = {"proof": shown_in(await round_trip(grace, acme), "proof"), "code": app.now()}
    answer = await grace.post("/second-factor", data=proof | {"action": "off"})
    assert (answer.status_code, "Begin with it" in answer.text) == (422, True)
    assert await AuthenticatorSecret.exists()


async def test_a_factor_that_is_there_is_asked_for_first(
    grace: httpx.AsyncClient, acme: Liar
) -> None:
    form, app = confirmation(await grace.post("/second-factor", data=BEGIN))
    await grace.post("/second-factor", data=form)
    proof = {"proof": shown_in(await round_trip(grace, acme), "proof")}
    await grace.post("/sign-in", data=proof | {"code": app.now()})
    for action in ("set_up", "off"):
        page = await grace.post("/second-factor", data=BEGIN | {"action": action})
        assert (page.status_code, "<code>" in page.text) == (401, False)
        proof = {"proof": shown_in(page, "proof"), "action": action}
        wrong = await grace.post("/second-factor", data=proof | {"code": "000000"})
        assert (wrong.status_code, "<code>" in wrong.text) == (401, False)
    right = proof | {"code": app.at(int(time.time()) + 30)}
    assert "is off" in (await grace.post("/second-factor", data=right)).text


@pytest.mark.parametrize(
    "change",
    ["password_hash = 'x'", "is_disabled = true", "is_admin = true", "email = 'g@example.com'"],
)
async def test_what_was_begun_ends_with_the_account_as_it_was(
    grace: httpx.AsyncClient, db: Engine, change: str
) -> None:
    form, _ = confirmation(await grace.post("/second-factor", data=BEGIN))
    await db.execute(f"UPDATE users SET {change}")
    assert (await grace.post("/second-factor", data=form)).status_code == 422
    assert not await AuthenticatorSecret.exists()


async def test_an_administrator_who_must_have_a_second_factor_is_led_to_set_it_up(
    acme: Liar, url: str, db: Engine
) -> None:
    trusted = provider(approves=True, roles=ROLES)
    acme.claims = {"groups": ["admins"]}
    async with client_with(identity_providers=(trusted,), mfa_required=True, **KEY) as client:
        page = await round_trip(client, acme)
        assert "Administrators need a second factor" in page.text
        assert not await Session.exists()
        form, app = confirmation(page)
        await client.post("/second-factor", data=form)
        asked = await round_trip(client, acme)
        assert "<code>" not in asked.text
        proof = {"proof": shown_in(asked, "proof"), "code": app.now()}
        assert (await client.post("/sign-in", data=proof)).headers["location"] == "/"
        assert await is_in(client)
