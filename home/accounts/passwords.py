"""Passwords: argon2id in worker threads, so that hashing never holds up the event loop."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import os
import sys
import threading
import unicodedata
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import lru_cache
from typing import TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from audit.errors import GroundworkError
from audit.tracing import span
from home.accounts.hashing_queue import HashingQueue, Purpose

Result = TypeVar("Result")

# OWASP Password Storage Cheat Sheet: argon2id with 19 MiB of memory, 2 iterations, 1 lane.
HASHER = PasswordHasher(time_cost=2, memory_cost=19_456, parallelism=1)
MIN_LENGTH, MIN_LENGTH_ADMIN, MAX_LENGTH = 8, 15, 128
# Two at most; one core, if there is another, stays for everything else.
HASHES_AT_ONCE = max(1, min(2, (os.cpu_count() or 1) - 1))
# Some 20 to 30 ms each: fifty at once are served. Together with a statement that the database does
# not answer (DB_COMMAND_TIMEOUT_MS), nobody waits for more than seven seconds.
WAITING_AT_MOST, WAIT_SECONDS = 50, 1.75
STOCK = "pbkdf2_sha256$"  # Piccolo's own hashes, of accounts that come from elsewhere
MOST_STOCK_ITERATIONS = 10_000_000


class PasswordRefused(GroundworkError):
    """A password that breaks a rule; the message says which."""

    status, code = 422, "invalid"


def check(password: str, *, is_admin: bool) -> None:
    """Check length, and that it is not among the first that an attacker tries: NIST SP 800-63B,
    section 3.1.1.2, asks for this, and advises against composition rules.

    Raises:
        PasswordRefused: with a sentence for the person.
    """
    least = MIN_LENGTH_ADMIN if is_admin else MIN_LENGTH
    if not least <= len(password) <= MAX_LENGTH:
        whose = "an administrator's password" if is_admin else "a password"
        raise PasswordRefused(f"Choose {whose} of {least} to {MAX_LENGTH} characters.")
    if "\x00" in password or not password.isprintable():
        raise PasswordRefused("Choose a password without control characters.")
    if password.lower() in _common():
        raise PasswordRefused("This password is among the first that are tried: choose another.")


async def hash_password(password: str, purpose: Purpose = Purpose.SIGN_IN) -> str:
    """Return the argon2id hash in PHC string format.

    Raises:
        Busy: too many others are hashing.
    """
    async with hashing_queue().slot(purpose):
        return await _in_thread(HASHER.hash, _composed(password))


async def fits(password: str, stored: str) -> bool:
    """Return whether it is the password of a hash; takes as long for one that is empty or unusable.

    Raises:
        Busy: too many others are hashing.
    """
    async with hashing_queue().slot(Purpose.SIGN_IN):
        return await _in_thread(_verify, _composed(password), stored)


def needs_rehash(stored: str) -> bool:
    """Return whether the hash was made with other parameters than today's, or by Piccolo itself."""
    return stored.startswith(STOCK) or HASHER.check_needs_rehash(stored)


def share_cores(workers: int) -> None:
    """Hash less at once in each of several processes, that they leave a core to everything else."""
    global HASHES_AT_ONCE
    HASHES_AT_ONCE = max(1, min(2, ((os.cpu_count() or 1) - 1) // workers))


@lru_cache(maxsize=1)
def hashing_queue() -> HashingQueue:
    """Return the queue of all who hash in this process."""
    return HashingQueue(HASHES_AT_ONCE, WAITING_AT_MOST, WAIT_SECONDS)


def _composed(password: str) -> str:
    """Return the same for the same characters, however a keyboard puts them together (NFC)."""
    return unicodedata.normalize("NFC", password)


def _verify(password: str, stored: str) -> bool:
    if stored.startswith(STOCK):
        return _verify_stock(password, stored)
    with suppress(VerificationError, InvalidHashError):
        return HASHER.verify(stored or _dummy(), password) and bool(stored)
    return False


def _verify_stock(password: str, stored: str) -> bool:
    """Verify `pbkdf2_sha256$<iterations>$<salt>$<hash in hex>`, as piccolo.apps.user makes them."""
    with suppress(ValueError):
        _, iterations, salt, expected = stored.split("$")
        rounds = min(int(iterations), MOST_STOCK_ITERATIONS)
        made = hashlib.pbkdf2_hmac("sha256", password.encode(), salt.encode(), rounds)
        return hmac.compare_digest(made.hex(), expected)
    return False


@lru_cache(maxsize=1)
def _dummy() -> str:
    return HASHER.hash("no account has this password")


@lru_cache(maxsize=1)
def _common() -> frozenset[str]:
    from zxcvbn.frequency_lists import FREQUENCY_LISTS  # 1 MB: loaded for the first who needs it

    return frozenset(FREQUENCY_LISTS["passwords"])


async def _in_thread(function: Callable[..., Result], *args: str) -> Result:
    with span("password hash"):
        return await asyncio.get_running_loop().run_in_executor(_threads(), function, *args)


@lru_cache(maxsize=1)
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(HASHES_AT_ONCE, "hash", initializer=_step_back)


def _step_back() -> None:
    """Let everything else go first: a flood of sign-ins must not slow down who is in."""
    if sys.platform == "linux":  # where threads have priorities of their own
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 15)
