"""People sign in, and ask for accounts, while the database falls silent."""

from __future__ import annotations

import asyncio
import time

import httpx
import pytest

from home.tables import User
from tests.conftest import PASSWORD
from tests.faults.load import SLACK
from tests.live import running
from tests.postgres import Server
from tests.proxy import proxied

pytestmark = pytest.mark.direct

SIGN_INS, REGISTRATIONS = 20, 300
SECONDS = 7 * SLACK  # the figures are printed


@pytest.mark.long
@pytest.mark.parametrize("seconds_before", [0.0, 0.05, 0.2, 0.5, 1.0])
async def test_silence_ends_every_sign_in_and_registration_in_time(
    server: Server, seconds_before: float
) -> None:
    email = f"mel{seconds_before}@example.com"
    await User.create_user(email, PASSWORD, is_approved=True)
    async with proxied(server.url()) as (proxy, through):
        with running(through, TRUSTED_PROXIES="127.0.0.0/8", ALLOWED_HOSTS="127.0.0.1") as live:
            limits = httpx.Limits(max_connections=None)
            async with httpx.AsyncClient(
                base_url=live.address, timeout=60, limits=limits, trust_env=False
            ) as client:

                async def send(number: int) -> tuple[int, float]:
                    body = {"email": email, "password": PASSWORD}
                    path = "/api/sign-in"
                    if number >= SIGN_INS:
                        body["email"] = f"r{number}.{seconds_before}@example.com"
                        path = "/api/register"
                    address = {
                        "x-forwarded-for": f"198.51.{seconds_before * 100:.0f}.{number % 250}"
                    }
                    started = time.monotonic()
                    answer = await client.post(path, json=body, headers=address)
                    if answer.status_code == 503:
                        assert int(answer.headers["retry-after"]) > 0
                    return answer.status_code, time.monotonic() - started

                assert (await send(0))[0] == 200
                everybody = range(SIGN_INS + REGISTRATIONS)
                # Connections first: opening them takes this process seconds, on a busy machine.
                await asyncio.gather(*[client.get("/health/live") for _ in everybody])
                requests = [asyncio.create_task(send(number)) for number in everybody]
                await asyncio.sleep(seconds_before)
                proxy.drop()
                ended = await asyncio.gather(*requests)
                proxy.heal()
    statuses = {status: 0 for status, _ in ended}
    for status, _ in ended:
        statuses[status] += 1
    sign_in = max(seconds for _, seconds in ended[:SIGN_INS])
    register = max(seconds for _, seconds in ended[SIGN_INS:])
    print(
        f"silent after {seconds_before} s: {statuses}, slowest sign-in {sign_in:.2f} s,"
        f" slowest registration {register:.2f} s"
    )
    assert set(statuses) <= {200, 202, 503}
    assert max(sign_in, register) < SECONDS
