"""The session's cookie: `id` over plain http in development, else `__Host-id`, which browsers take
from this host over https only (RFC 6265bis, section 4.1.3.2).
"""

from __future__ import annotations

import re

from starlette.responses import Response

from home.accounts.sessions import request_info
from home.web.read_your_writes import COOKIE as POSITION

PLAIN, HOST_ONLY = "id", "__Host-id"
DEVICE, DEVICE_HOST_ONLY = "device", "__Host-device"
DEVICE_SECONDS = 180 * 24 * 60 * 60
# What else piccolo-admin is given: its own token against CSRF, and where somebody's writes are.
KEPT = ("csrftoken", POSITION)
# No other white space than browsers send, and of a value no character that could be read in two
# ways: what is understood here must be what every parser behind us understands.
PAIRS = {
    name: re.compile(rf"(?:^|;[ \t]*){name}=([^;]*)")
    for name in (PLAIN, HOST_ONLY, DEVICE, DEVICE_HOST_ONLY, *KEPT)
}  # the last one counts, as in Starlette
VALUE = re.compile(r"[A-Za-z0-9_-]*")


def name_for(is_secure: bool) -> str:
    """The name of the cookie on a connection."""
    return HOST_ONLY if is_secure else PLAIN


def session_token(cookies: str, is_secure: bool) -> str:
    """The session's token in a Cookie header; empty when there is none."""
    return cookie_value(cookies, name_for(is_secure))


def cookie_value(cookies: str, name: str) -> str:
    found = PAIRS[name].findall(cookies) if name in cookies else None
    return found[-1] if found and VALUE.fullmatch(found[-1]) else ""


def set_session_cookie(response: Response, token: str) -> None:
    """Hand out a session's token, or take it back where it is empty."""
    is_secure = request_info.get().is_secure
    response.set_cookie(
        name_for(is_secure), token, None if token else 0,
        httponly=True, samesite="lax", secure=is_secure,
    )  # fmt: skip


def device_cookie(cookies: str, is_secure: bool) -> str:
    """Return the cookie of a device that somebody signed in on; empty when there is none."""
    return cookie_value(cookies, DEVICE_HOST_ONLY if is_secure else DEVICE)


def set_device_cookie(response: Response, value: str) -> None:
    """Let the device be recognised at the next sign-in, see home.accounts.devices."""
    is_secure = request_info.get().is_secure
    response.set_cookie(
        DEVICE_HOST_ONLY if is_secure else DEVICE, value, DEVICE_SECONDS,
        httponly=True, samesite="lax", secure=is_secure,
    )  # fmt: skip
