"""Passwords: argon2id in worker threads, so that hashing never holds up the event loop."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import TypeVar

import anyio
import anyio.to_thread
from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

Result = TypeVar("Result")

# OWASP Password Storage Cheat Sheet: argon2id with 19 MiB of memory, 2 iterations, 1 lane.
HASHER = PasswordHasher(time_cost=2, memory_cost=19_456, parallelism=1)
MIN_LENGTH, MIN_LENGTH_ADMIN, MAX_LENGTH = 8, 15, 128
HASHES_AT_ONCE = 2


class PasswordRefused(ValueError):
    """A password that breaks a rule; the message says which."""


def check(password: str, *, is_admin: bool) -> None:
    """Check length only: NIST SP 800-63B section 3.1.1.2 advises against composition rules.

    Raises:
        PasswordRefused: with a sentence for the person.
    """
    least = MIN_LENGTH_ADMIN if is_admin else MIN_LENGTH
    if not least <= len(password) <= MAX_LENGTH:
        whose = "an administrator's password" if is_admin else "a password"
        raise PasswordRefused(f"Choose {whose} of {least} to {MAX_LENGTH} characters.")
    if "\x00" in password or not password.isprintable():
        raise PasswordRefused("Choose a password without control characters.")


async def hash_password(password: str) -> str:
    """The argon2id hash in PHC string format."""
    return await _in_thread(HASHER.hash, password)


async def verify(password: str, stored: str) -> bool:
    """Whether the password fits; takes as long when `stored` is empty or unusable."""
    return await _in_thread(_verify, password, stored)


def needs_rehash(stored: str) -> bool:
    """Whether the hash was made with other parameters than today's."""
    return HASHER.check_needs_rehash(stored)


def _verify(password: str, stored: str) -> bool:
    try:
        return HASHER.verify(stored or _dummy(), password) and bool(stored)
    except (VerificationError, InvalidHashError):
        return False


@lru_cache(maxsize=1)
def _dummy() -> str:
    return HASHER.hash("no account has this password")


@lru_cache(maxsize=1)
def _limiter() -> anyio.CapacityLimiter:
    return anyio.CapacityLimiter(HASHES_AT_ONCE)


async def _in_thread(function: Callable[..., Result], *args: str) -> Result:
    return await anyio.to_thread.run_sync(function, *args, limiter=_limiter())
