"""How long the next sign-in has to wait, read from the audit trail: it survives restarts and counts
for all processes. Successes never count, and end the count of an account's failures."""

from __future__ import annotations

import math
from typing import Any

from piccolo_api.rate_limiting.middleware import RateLimitProvider

from audit.context import current_actor, storable
from audit.errors import GroundworkError
from audit.record import record

RESOURCE = "sign_in"

# An account: from 5 failures on 1 s, doubling up to 15 minutes. An address: 20 in 5 minutes.
WAIT = """
    WITH account AS (
        SELECT count(*) AS failures, max(created_at) AS last FROM audit_logs
        WHERE resource = 'sign_in' AND resource_id = $1 AND action = 'sign_in.failed'
          AND created_at > now() - interval '1 day'
          AND id > coalesce((
              SELECT max(id) FROM audit_logs
              WHERE resource = 'sign_in' AND resource_id = $1 AND action = 'sign_in.succeeded'
          ), 0)
    ), address AS (
        SELECT count(*) AS failures, min(created_at) AS first FROM audit_logs
        WHERE action = 'sign_in.failed' AND ip_address = $2
          AND created_at > now() - interval '5 minutes'
    )
    SELECT extract(epoch FROM greatest(
        CASE WHEN account.failures >= 5 THEN
            account.last - now() + least(2 ^ least(account.failures - 5, 20), 900) * interval '1 s'
        END,
        CASE WHEN address.failures >= 20 THEN address.first - now() + interval '5 minutes' END,
        interval '0'
    ))::float
    FROM account, address
"""
TOLD = """
    SELECT EXISTS (
        SELECT FROM audit_logs
        WHERE resource = 'sign_in' AND resource_id = $1 AND action = 'sign_in.throttled'
          AND created_at > now() - interval '1 minute'
    )
"""


class Throttled(GroundworkError):
    """Too many failures; `retry_after` is in whole seconds."""

    status, code = 429, "too_many_attempts"

    def __init__(self, retry_after: int) -> None:
        super().__init__(f"Too many failed sign-ins. Try again in {retry_after} seconds.")
        self._retry_after = retry_after

    @property
    def retry_after(self) -> int:
        return self._retry_after


class NoLimit(RateLimitProvider):
    """Stands for the stock limiter, which counts successes, and in one process only."""

    def increment(self, identifier: str) -> None: ...


async def check(db: Any, email: str) -> None:
    """Refuse where the account or the address has failed too often.

    Raises:
        Throttled: it was recorded, once a minute at most: a flood does not fill the trail.
    """
    key, actor = account_key(email), current_actor()
    async with db.connection() as connection:
        wait = await connection.fetchval(WAIT, key, actor and actor.ip_address)
        if wait <= 0:
            return
        told = await connection.fetchval(TOLD, key)
    if not told:
        await record("sign_in.throttled", RESOURCE, key)
    raise Throttled(math.ceil(wait))


def account_key(email: str) -> str:
    """What the trail calls an account that may not exist."""
    return str(storable(email))[:255]
