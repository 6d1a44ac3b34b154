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
from home.accounts import second_factor
from home.accounts.second_factor import STEP_SECONDS, AuthenticatorSecret, SecondFactor
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
    factor = SecondFactor(KEY)
    secret, setup = factor.begin(user.id)
    return secret, list(await factor.confirm(setup, code_of(secret, step)))


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
    factor, code = SecondFactor(KEY), code_of(secret)
    tried = await asyncio.gather(*[factor.accepts(administrator.id, code) for _ in range(50)])
    assert sum(tried) == 1


async def test_codes_before_the_one_used_last_are_spent(
    client: httpx.AsyncClient, administrator: User
) -> None:
    secret, _ = await set_up(administrator, step=0)
    assert not await SecondFactor(KEY).accepts(administrator.id, code_of(secret, -1))
    assert await SecondFactor(KEY).accepts(administrator.id, code_of(secret, 1))


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
    assert second_factor.matching_step(secret, code_of(secret, steps)) == expected


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
    for other in (SecondFactor("another key, of 32 characters ..."), SecondFactor(None)):
        assert not await other.accepts(administrator.id, code_of(secret))
    assert await SecondFactor(None).accepts(administrator.id, codes[0])


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
    with pytest.raises(second_factor.SetupFailed, match="ten minutes"):
        await set_up(administrator)
    with pytest.raises(second_factor.SetupFailed, match="ten minutes"):
        await SecondFactor(KEY).confirm("xchacha20-00", "000000")


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
