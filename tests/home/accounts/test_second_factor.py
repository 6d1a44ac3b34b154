"""A password alone is not enough any more."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator

import httpx
import pyotp
import pytest
from pydantic import SecretStr

import piccolo_conf
from audit.record import record
from audit.tables import AuditLog
from home.accounts import authenticator, second_factor
from home.accounts.authenticator import STEP_SECONDS, AuthenticatorSecret
from home.accounts.second_factor import SecondFactor, SetupFailed
from home.accounts.verified_account import account_of
from home.tables import Session, User
from tests.conftest import PASSWORD, client_with

pytestmark = pytest.mark.any_version

KEY = "k" * 32
ADA = {"email": "ada@example.com", "password": PASSWORD}


def code_of(secret: str, step: int = 0) -> str:
    """The code of now, or so many periods later."""
    return pyotp.TOTP(secret).generate_otp(int(time.time()) // STEP_SECONDS + step)


async def set_up(user: User, step: int = -1) -> tuple[str, list[str]]:
    """The secret and the recovery codes; by default the code of now is still unused."""
    factor = factor_with(KEY)
    setup = factor.begin(await account_of(piccolo_conf.DB, user.id))
    return setup.secret, list(await factor.confirm(setup, code_of(setup.secret, step)))


def factor_with(key: str | None) -> SecondFactor:
    return SecondFactor(piccolo_conf.DB, key)


async def accepts(key: str | None, user: User, code: str) -> bool:
    return await factor_with(key).accepts(await account_of(piccolo_conf.DB, user.id), code)


@pytest.fixture
async def client(url: str) -> AsyncIterator[httpx.AsyncClient]:
    async with client_with(mfa_key=SecretStr(KEY)) as client:
        yield client


async def attempt(client: httpx.AsyncClient, code: str | None = None) -> int:
    answer = await client.post("/api/sign-in", json=ADA | ({"code": code} if code else {}))
    return answer.status_code


async def test_a_code_is_asked_for_once_it_is_set_up(
    client: httpx.AsyncClient, administrator: User
) -> None:
    assert await attempt(client) == 200
    secret, _ = await set_up(administrator)
    answer = await client.post("/api/sign-in", json=ADA)
    assert (answer.status_code, answer.json()["error"]["code"]) == (401, "code_needed")
    assert await attempt(client, "000000") == 401
    assert await attempt(client, code_of(secret)) == 200


async def test_a_code_works_once_even_fifty_times_at_once(
    client: httpx.AsyncClient, administrator: User
) -> None:
    secret, _ = await set_up(administrator)
    factor, code = factor_with(KEY), code_of(secret)
    account = await account_of(piccolo_conf.DB, administrator.id)
    tries = [factor.accepts(account, code) for _ in range(50)]
    tried = await asyncio.gather(*tries, return_exceptions=True)
    assert tried.count(True) == 1
    assert tried.count(False) == 5, "the others are too many guesses"


async def test_codes_before_the_one_used_last_are_spent(
    client: httpx.AsyncClient, administrator: User
) -> None:
    secret, _ = await set_up(administrator, step=0)
    assert not await accepts(KEY, administrator, code_of(secret, -1))
    assert await accepts(KEY, administrator, code_of(secret, 1))


@pytest.mark.parametrize(
    ("steps", "fits"), [(-2, False), (-1, True), (0, True), (1, True), (2, False)]
)
def test_a_code_fits_one_period_before_and_after(
    monkeypatch: pytest.MonkeyPatch, steps: int, fits: bool
) -> None:
    monkeypatch.setattr(time, "time", lambda: 1_000_000_000.0)
    secret = pyotp.random_base32()
    now = 1_000_000_000 // STEP_SECONDS
    expected = now + steps if fits else None
    assert authenticator.matching_step(secret, code_of(secret, steps)) == expected


async def test_codes_work_after_the_clock_was_ahead_and_setups_of_then_do_not(
    client: httpx.AsyncClient, administrator: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, years = time.time(), 10 * 365 * 86_400
    monkeypatch.setattr(time, "time", lambda: now + years)
    secret, _ = await set_up(administrator)
    factor = factor_with(KEY)
    token = factor.token(factor.begin(await account_of(piccolo_conf.DB, administrator.id)))
    assert factor.opened(token)
    monkeypatch.setattr(time, "time", lambda: now)
    with pytest.raises(SetupFailed, match="ten minutes"):
        factor.opened(token)
    assert await accepts(KEY, administrator, code_of(secret))
    assert not await accepts(KEY, administrator, code_of(secret)), "it works twice"


async def test_a_recovery_code_works_once(client: httpx.AsyncClient, administrator: User) -> None:
    _, codes = await set_up(administrator)
    assert await attempt(client, codes[3].upper()) == 200
    assert await attempt(client, codes[3]) == 401
    assert await attempt(client, codes[4]) == 200


async def test_wrong_codes_are_failures_that_a_right_password_does_not_forgive(
    client: httpx.AsyncClient, administrator: User
) -> None:
    secret, _ = await set_up(administrator)
    for _ in range(3):
        assert await attempt(client, "000000") == 401
    assert await AuditLog.count().where(AuditLog.action == "sign_in.failed") == 3
    assert not await AuditLog.exists().where(AuditLog.action == "sign_in.succeeded")
    for _ in range(7):  # so many more that the wait outlasts this test
        await record(piccolo_conf.DB, "sign_in.failed", "sign_in", "ada@example.com")
    assert await attempt(client, code_of(secret)) == 429


async def test_what_is_stored_opens_nothing(client: httpx.AsyncClient, administrator: User) -> None:
    secret, codes = await set_up(administrator)
    stored = repr(await AuthenticatorSecret.select())
    trail = repr(await AuditLog.select())
    for each in (secret, *codes):
        assert each not in stored
        assert each not in trail
    [row] = await AuthenticatorSecret.select(AuthenticatorSecret.secret)
    assert row["secret"] not in trail


async def test_with_another_key_codes_open_nothing_and_recovery_codes_do(
    client: httpx.AsyncClient, administrator: User
) -> None:
    secret, codes = await set_up(administrator)
    for other in ("another key, of 32 characters ...", None):
        assert not await accepts(other, administrator, code_of(secret))
    assert await accepts(None, administrator, codes[0])


async def test_nothing_changes_until_a_code_shows_that_the_app_has_the_key(
    client: httpx.AsyncClient, administrator: User
) -> None:
    page = await client.post("/second-factor", data=ADA)
    setup = re.search(r'name="setup" value="([^"]+)"', page.text)
    key = re.search(r"<code>([A-Z2-7]{32})</code>", page.text)
    assert setup is not None
    assert key is not None
    wrong = await client.post("/second-factor", data={"setup": setup[1], "code": "000000"})
    assert wrong.status_code == 422
    assert not await AuthenticatorSecret.exists()
    assert await attempt(client) == 200
    form = {"setup": setup[1], "code": code_of(key[1])}
    done = await client.post("/second-factor", data=form)
    assert len(re.findall("<li><code>", done.text)) == 8
    assert await attempt(client) == 401


async def test_setting_up_takes_ten_minutes_at_most(
    client: httpx.AsyncClient, administrator: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(second_factor, "SETUP_SECONDS", -1)
    factor = factor_with(KEY)
    setup = factor.begin(await account_of(piccolo_conf.DB, administrator.id))
    for token in (factor.token(setup), "xchacha20-00", ""):
        with pytest.raises(second_factor.SetupFailed, match="ten minutes"):
            factor.opened(token)


async def test_another_app_or_none_takes_a_code_of_the_old_one(
    client: httpx.AsyncClient, administrator: User
) -> None:
    secret, _ = await set_up(administrator)
    for action in ("set_up", "off"):
        form = {**ADA, "action": action}
        assert (await client.post("/second-factor", data=form)).status_code == 401
        wrong = await client.post("/second-factor", data=form | {"code": "000000"})
        assert wrong.status_code == 401
    form = {**ADA, "action": "off", "code": code_of(secret)}
    assert (await client.post("/second-factor", data=form)).status_code == 200
    assert await attempt(client) == 200


async def test_the_back_office_asks_too(client: httpx.AsyncClient, administrator: User) -> None:
    secret, _ = await set_up(administrator)
    await client.get("/admin/public/meta/")
    client.headers["x-csrftoken"] = client.cookies["csrftoken"]
    body = {"username": ADA["email"], "password": PASSWORD}
    answer = await client.post("/admin/public/login/", json=body)
    assert (answer.status_code, answer.json()["detail"]) == (401, "MFA code required")
    wrong = await client.post("/admin/public/login/", json=body | {"mfa_code": "000000"})
    assert wrong.status_code == 401
    assert not await Session.exists()
    right = await client.post("/admin/public/login/", json=body | {"mfa_code": code_of(secret)})
    assert right.status_code == 200
    stock = await client.post("/admin/api/mfa-setup/", data={"action": "register", **ADA})
    assert (stock.status_code, stock.headers["location"]) == (303, "/second-factor")


async def test_administrators_may_be_made_to_have_one(url: str, administrator: User) -> None:
    await User.create_user("mel@example.com", PASSWORD, is_approved=True)
    async with client_with(mfa_key=SecretStr(KEY), mfa_required=True) as client:
        answer = await client.post("/api/sign-in", json=ADA)
        assert (answer.status_code, answer.json()["error"]["code"]) == (
            403,
            "second_factor_missing",
        )
        page = await client.post("/sign-in", data=ADA)
        assert "/second-factor" in page.text
        assert not await Session.exists()
        mel = {"email": "mel@example.com", "password": PASSWORD}
        assert (await client.post("/api/sign-in", json=mel)).status_code == 200
        bea = {"email": "bea@example.com", "password": PASSWORD}
        await User.create_user(bea["email"], PASSWORD, is_superuser=True, is_approved=True)
        assert (await client.post("/api/sign-in", json=bea)).status_code == 403
        secret, _ = await set_up(administrator)
        assert await attempt(client, code_of(secret)) == 200


CHANGES = {
    "another password": "UPDATE users SET password_hash = 'another' WHERE id = $1",
    "disabled": "UPDATE users SET is_disabled = true WHERE id = $1",
    "disabled and enabled again": (
        "UPDATE users SET is_disabled = true WHERE id = $1;"
        "UPDATE users SET is_disabled = false WHERE id = $1"
    ),
    "demoted": "UPDATE users SET is_admin = false, is_superuser = false WHERE id = $1",
    "not approved": "UPDATE users SET is_approved = false WHERE id = $1",
}


async def begun(client: httpx.AsyncClient) -> tuple[str, str]:
    """The token and the key of a second factor that waits for a code."""
    page = await client.post("/second-factor", data=ADA)
    token = re.search(r'name="setup" value="([^"]+)"', page.text)
    key = re.search(r"<code>([A-Z2-7]{32})</code>", page.text)
    assert token is not None
    assert key is not None
    return token[1], key[1]


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
async def test_what_was_begun_ends_with_the_account_as_it_was(
    client: httpx.AsyncClient, administrator: User, change: str
) -> None:
    rights = {"is_admin": True, "is_superuser": True, "is_approved": True}
    await User.create_user("bea@example.com", PASSWORD, **rights)
    token, key = await begun(client)
    for statement in change.split(";"):
        await piccolo_conf.DB.execute(statement, administrator.id)
    done = await client.post("/second-factor", data={"setup": token, "code": code_of(key)})
    assert (done.status_code, "Begin again" in done.text) == (422, True)
    assert not await AuthenticatorSecret.exists()


async def test_what_was_begun_is_confirmed_once_by_the_person(
    client: httpx.AsyncClient, administrator: User
) -> None:
    (first, key), (second, other) = await begun(client), await begun(client)
    forms = [{"setup": first, "code": code_of(key)}] * 5
    answers = await asyncio.gather(*[client.post("/second-factor", data=form) for form in forms])
    assert sorted(answer.status_code for answer in answers) == [200, 422, 422, 422, 422]
    stored = await AuthenticatorSecret.select()
    late = await client.post("/second-factor", data={"setup": second, "code": code_of(other)})
    assert late.status_code == 422
    assert await AuthenticatorSecret.select() == stored
    [row] = await AuditLog.select().where(AuditLog.action == "authenticator_secrets.insert")
    assert (row["actor"], row["user_id"]) == ("ada@example.com", administrator.id)
    assert await attempt(client, code_of(key, 1)) == 200, "the app that was confirmed works"


async def test_a_factor_is_not_turned_off_by_who_was_verified_before(
    client: httpx.AsyncClient, administrator: User
) -> None:
    await set_up(administrator)
    verified = await account_of(piccolo_conf.DB, administrator.id)
    await User.update_password(administrator.id, "a password of another kind")
    assert not await authenticator.remove(piccolo_conf.DB, administrator.id, verified.version)
    assert await AuthenticatorSecret.exists()


async def test_without_a_key_nothing_leads_to_the_page(url: str) -> None:
    async with client_with() as client:
        assert (await client.get("/second-factor")).status_code == 404
        for path in ("/", "/sign-in", "/register"):
            assert "/second-factor" not in (await client.get(path)).text
    async with client_with(mfa_key=SecretStr(KEY)) as client:
        assert "/second-factor" in (await client.get("/sign-in")).text


async def proof_on(client: httpx.AsyncClient, path: str) -> str:
    """The proof of a password that a page waits with for the code."""
    page = await client.post(path, data=ADA)
    assert (page.status_code, 'name="password"' in page.text) == (401, False)
    found = re.search(r'name="proof" value="([^"]+)"', page.text)
    assert found is not None
    return found[1]


async def test_the_password_is_asked_for_once(
    client: httpx.AsyncClient, administrator: User
) -> None:
    secret, codes = await set_up(administrator)
    proof = await proof_on(client, "/sign-in")
    wrong = await client.post("/sign-in", data={"proof": proof, "code": "000000"})
    assert (wrong.status_code, "This code is wrong" in wrong.text) == (401, True)
    assert f'name="proof" value="{proof}"' in wrong.text
    empty = await client.post("/sign-in", data={"proof": proof})
    assert (empty.status_code, 'name="proof"' in empty.text) == (401, True)
    done = await client.post("/sign-in?next=/account", data={"proof": proof, "code": codes[0]})
    assert (done.status_code, done.headers["location"]) == (303, "/account")
    [failed] = await AuditLog.select().where(AuditLog.action == "sign_in.failed")
    assert failed["actor"] == "ada@example.com"
    proof = await proof_on(client, "/second-factor")
    form = {"proof": proof, "action": "off", "code": code_of(secret)}
    assert "Your second factor is off." in (await client.post("/second-factor", data=form)).text
    assert not await AuthenticatorSecret.exists()


async def test_codes_after_a_proof_are_throttled(
    client: httpx.AsyncClient, administrator: User
) -> None:
    await set_up(administrator)
    proof = await proof_on(client, "/sign-in")
    form = {"proof": proof, "code": "000000"}
    answers = [(await client.post("/sign-in", data=form)).status_code for _ in range(6)]
    assert answers == [401, 401, 401, 401, 401, 429]


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
async def test_the_proof_of_a_password_counts_for_this_account_as_it_was(
    client: httpx.AsyncClient, administrator: User, change: str
) -> None:
    rights = {"is_admin": True, "is_superuser": True, "is_approved": True}
    await User.create_user("bea@example.com", PASSWORD, **rights)
    _, codes = await set_up(administrator)
    proof = await proof_on(client, "/sign-in")
    for statement in change.split(";"):
        await piccolo_conf.DB.execute(statement, administrator.id)
    late = await client.post("/sign-in", data={"proof": proof, "code": codes[0]})
    assert (late.status_code, 'name="password"' in late.text) == (401, True)
    assert not await Session.exists()


async def test_a_proof_and_a_setup_are_not_each_other(
    client: httpx.AsyncClient, administrator: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    setup, key = await begun(client)
    await set_up(administrator)
    proof = await proof_on(client, "/sign-in")
    for path, form in (
        ("/sign-in", {"proof": setup, "code": code_of(key)}),
        ("/second-factor", {"proof": setup, "code": code_of(key), "action": "off"}),
        ("/second-factor", {"setup": proof, "code": code_of(key)}),
        ("/sign-in", {"proof": "xchacha20-00", "code": code_of(key)}),
        ("/sign-in", {"proof": proof + "00", "code": code_of(key)}),
    ):
        answer = await client.post(path, data=form)
        assert (answer.status_code, "Begin again" in answer.text) == (422, True)
    monkeypatch.setattr(second_factor, "SETUP_SECONDS", -1)
    with pytest.raises(second_factor.SetupFailed):
        factor = factor_with(KEY)
        factor.proven(factor.proof(await account_of(piccolo_conf.DB, administrator.id)))
    assert not await Session.exists()
    assert await AuthenticatorSecret.count() == 1
