"""What all requests of ours to other servers have in common."""

from __future__ import annotations

import logging
import ssl
from functools import lru_cache

import httpx

for name in ("httpx", "httpcore"):  # they log addresses and headers, which may hold secrets
    logging.getLogger(name).setLevel(logging.WARNING)


@lru_cache(maxsize=1)
def trusted() -> ssl.SSLContext:
    """Return the authorities that are trusted; reading them takes time."""
    return httpx.create_ssl_context()
