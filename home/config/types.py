"""Types of settings: how their text is read, and what is refused."""

from __future__ import annotations

import math
import os
import sys
from contextlib import suppress
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator, Field
from pydantic_settings import NoDecode

MOST_WORKERS = 128
CPU_QUOTA = Path("/sys/fs/cgroup/cpu.max")  # of a container: microseconds, of so many


def _parts(value: object) -> object:
    """Split text with commas into a tuple."""
    if not isinstance(value, str):
        return value
    return tuple(part.strip() for part in value.split(",") if part.strip())


def _networks(value: object) -> object:
    parts = _parts(value)
    if parts is value or not isinstance(parts, tuple):
        return value
    try:
        return tuple(ip_network(part) for part in parts)
    except ValueError:
        raise ValueError("use CIDR notation, separated by commas: 10.0.0.0/8,::1/128") from None


def _clamp(value: object) -> object:
    """Clamp DB_POOL_MAX to 1..20 rather than refuse it."""
    try:
        return min(max(int(str(value)), 1), 20)
    except ValueError:
        return value


def _workers(value: object) -> object:
    """Read `auto` as the number of cores that this process may use."""
    return usable_cores() if isinstance(value, str) and value.strip().lower() == "auto" else value


def usable_cores() -> int:
    """Return how many cores this process may use: by its affinity, and by its container's quota."""
    if sys.platform != "linux":
        return os.cpu_count() or 1
    cores = len(os.sched_getaffinity(0))
    with suppress(OSError, ValueError):
        quota, period = CPU_QUOTA.read_text(encoding="ascii").split()
        cores = min(cores, math.ceil(int(quota) / int(period)))  # «max» is no number
    return max(cores, 1)


Networks = Annotated[tuple[IPv4Network | IPv6Network, ...], NoDecode, BeforeValidator(_networks)]
Texts = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_parts)]
Clamped = Annotated[int, BeforeValidator(_clamp)]
Workers = Annotated[int, BeforeValidator(_workers), Field(ge=1, le=MOST_WORKERS)]
Port = Annotated[int, Field(ge=1, le=65535)]
Milliseconds = Annotated[int, Field(ge=1, le=3_600_000)]
# Authenticator apps part the name from the account by a colon.
ProductName = Annotated[str, Field(min_length=1, max_length=60, pattern=r"^[^\x00-\x1f\x7f:]+$")]
