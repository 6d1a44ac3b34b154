"""How long the next attempt has to wait, read from the audit trail: it survives restarts and counts
for all processes. Successes never count, and end the count of an account's failures."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import IPv4Address, IPv6Network, ip_address
from typing import Any, NamedTuple

from audit.context import Actor, acting_as, current_actor, storable
from audit.database import Database
from audit.errors import GroundworkError
from audit.jobs import Job
from audit.record import record
from home.services import Services

RESOURCE = "sign_in"
NO_ADDRESS = "(no address)"
REPORT_SECONDS = 60
REGISTRATIONS = 20  # of one address in an hour

# An account: from 5 failures on 1 s, doubling up to 15 minutes. An address: 20 in 5 minutes.
# A device that signed in to the account before has a count of its own, and strangers have theirs.
# What lies in the future counts as of now, and not at all beyond a minute: the clock was ahead and
# has been set back.
WAIT = """
    WITH account AS (
        SELECT count(*) AS failures, max(created_at) AS last FROM audit_logs
        WHERE resource = 'sign_in' AND resource_id = $1 AND action = 'sign_in.failed'
          AND details ->> 'device' IS NOT DISTINCT FROM $3::text
          AND created_at BETWEEN now() - interval '1 day' AND now() + interval '1 minute'
          AND id > coalesce((
              SELECT max(id) FROM audit_logs
              WHERE resource = 'sign_in' AND resource_id = $1 AND action = 'sign_in.succeeded'
                AND details ->> 'device' IS NOT DISTINCT FROM $3::text
          ), 0)
    ), address AS (
        SELECT count(*) AS failures, min(created_at) AS first FROM audit_logs
        WHERE action = 'sign_in.failed' AND details ->> 'network' = $2 AND $3::text IS NULL
          AND created_at BETWEEN now() - interval '5 minutes' AND now() + interval '1 minute'
    )
    SELECT extract(epoch FROM greatest(
        CASE WHEN account.failures >= 5 THEN
            least(account.last, now()) - now()
            + least(2 ^ least(account.failures - 5, 20), 900) * interval '1 s'
        END,
        CASE WHEN address.failures >= 20 THEN
            least(address.first, now()) - now() + interval '5 minutes'
        END,
        interval '0'
    ))::float
    FROM account, address
"""
WAS_REPORTED = """
    SELECT EXISTS (
        SELECT FROM audit_logs
        WHERE resource = 'sign_in' AND resource_id = $1 AND action = 'sign_in.throttled'
          AND created_at BETWEEN now() - interval '1 minute' AND now() + interval '1 minute'
    ) OR EXISTS (
        SELECT FROM audit_logs
        WHERE action = 'sign_in.throttled' AND details ->> 'network' = $2
          AND created_at BETWEEN now() - interval '1 minute' AND now() + interval '1 minute'
    )
"""
REGISTRATION_WAIT = """
    SELECT extract(epoch FROM
        least(min(created_at), clock_timestamp()) - clock_timestamp() + interval '1 hour')::float
    FROM audit_logs
    WHERE action IN ('register.requested', 'password.requested')
      AND details ->> 'network' = $1
      AND created_at BETWEEN now() - interval '1 hour' AND now() + interval '1 minute'
    HAVING count(*) >= $2
"""
# One at a time of those with the same key, until the end of the transaction. What follows is a
# statement of its own, which sees what the one before has stored.
TURN = "SELECT pg_advisory_xact_lock(hashtextextended($1, 0))"

refused: Counter[str] = Counter()  # attempts by address that no record tells of yet, here


class Throttled(GroundworkError):
    """Too many failures; `retry_after` is in whole seconds."""

    status, code = 429, "too_many_attempts"

    def __init__(self, retry_after: int, what: str = "failed sign-ins") -> None:
        super().__init__(f"Too many {what}. Try again in {retry_after} seconds.")
        self._retry_after = retry_after

    @property
    def retry_after(self) -> int:
        return self._retry_after


class Attempt(NamedTuple):
    """Somebody tries to sign in.

    Args:
        account: what the trail calls an account that may not exist.
        network: where it comes from, see `network_of`.
        device: the id of a device that signed in to this account before.
    """

    account: str
    network: str | None
    device: str | None

    def details(self, **more: str) -> dict[str, str]:
        """Return what the record of a failure has to say, to be counted."""
        known = {"network": self.network, "device": self.device}
        return {name: value for name, value in known.items() if value is not None} | more


def attempt_at(email: str, device: str | None = None) -> Attempt:
    """Return the attempt that the current request is.

    What is no address may be a password, typed into the wrong field: it is not recorded.
    """
    account = str(storable(email))[:255] if "@" in email else NO_ADDRESS
    return Attempt(account, network_of(_address()), device)


def network_of(address: str | None) -> str | None:
    """Return what counts as one address: of IPv6 the network of a site (/64, RFC 4291)."""
    try:
        found = ip_address(address or "")
    except ValueError:
        return address
    if isinstance(found, IPv4Address):
        return str(found)
    return str(found.ipv4_mapped or IPv6Network((int(found), 64), strict=False))


async def check(db: Database, attempt: Attempt) -> None:
    """Refuse where the account or the address has failed too often.

    Raises:
        Throttled: it was recorded, once a minute at most: a flood does not fill the trail.
    """
    async with db.connection() as connection:
        wait = await connection.fetchval(WAIT, *attempt)
    if wait > 0:
        await _refuse(db, attempt, wait)


@asynccontextmanager
async def turn(db: Database, attempt: Attempt) -> AsyncIterator[None]:
    """Decide about an attempt, in a transaction: one after the other for each account.

    What was found out before, side by side with other attempts, counts only here: many guesses at
    once are no more than many guesses one after the other.

    Raises:
        Throttled: meanwhile others have failed too often.
    """
    async with db.transaction():
        await db.execute(TURN, f"sign_in {attempt.account}")
        wait = await db.fetchval(WAIT, *attempt)
        if wait <= 0:
            yield
            return
    await _refuse(db, attempt, wait)


async def _refuse(db: Database, attempt: Attempt, wait: float) -> None:
    await _report(db, attempt)
    raise Throttled(math.ceil(wait))


async def _report(db: Database, attempt: Attempt) -> None:
    """Record it at most once a minute for an account, and for an address, and count the others."""
    network = attempt.network or "unknown"
    refused[network] += 1
    about = (attempt.account, network)
    if await db.fetchval(WAS_REPORTED, *about):
        return
    told = Counter[str]()
    async with db.transaction():
        for key in sorted({f"throttled {each}" for each in about}):
            await db.execute(TURN, key)
        if not await db.fetchval(WAS_REPORTED, *about):
            attempts = refused[network]
            details: dict[str, Any] = {"network": network, "attempts": max(attempts, 1)}
            await record(db, "sign_in.throttled", RESOURCE, attempt.account, details)
            told = Counter({network: attempts})
    _forget(told)


async def report_refused(db: Database) -> None:
    """Record how many attempts were refused in this process that no record tells of yet."""
    if refused:
        told = refused.copy()
        details = {"attempts": told.total(), "addresses": len(told)}
        await record(db, "sign_in.throttled", RESOURCE, None, details)
        _forget(told)


def _forget(told: Counter[str]) -> None:
    """Count no more what a record tells of, now that it is stored."""
    refused.subtract(told)
    for network in told:
        if refused[network] <= 0:
            del refused[network]


async def count_registration(db: Database, email: str, action: str = "register.requested") -> None:
    """Record that somebody asks for an account, or for a link to it.

    Raises:
        Throttled: too many requests came from this address; nothing was recorded.
    """
    attempt = attempt_at(email)
    async with db.transaction():
        await db.execute(TURN, f"register {attempt.network}")
        wait = await db.fetchval(REGISTRATION_WAIT, attempt.network, REGISTRATIONS)
        if wait is None:
            await record(db, action, "register", attempt.account, attempt.details())
            return
    raise Throttled(max(1, math.ceil(wait)), "requests for an account from this address")


def jobs(services: Services) -> list[Job]:
    """Return the job that records how many attempts were refused."""

    async def run() -> None:
        with acting_as(Actor("system:throttle")):
            await report_refused(services.db)

    return [Job("report refused sign-ins", run, REPORT_SECONDS)]


def _address() -> str | None:
    actor = current_actor()
    return actor.ip_address if actor else None
