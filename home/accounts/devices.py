"""Devices that somebody signed in on before: their failures are counted apart, so that the guesses
of strangers do not lock the owner of an account out.

https://owasp.org/www-community/Slow_Down_Online_Guessing_Attacks_with_Device_Cookies

A cookie is a random id and its HMAC under the account's password hash: it needs no key and no
table, fits one account alone, and means nothing any more once the password is another one. It opens
nothing.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets

ID_CHARACTERS = 16  # 96 random bits


def issue(email: str, password_hash: str, device: str | None = None) -> str:
    """Return the cookie for a device that somebody has signed in on.

    Args:
        device: the id that it has already, if any.
    """
    device = device or secrets.token_urlsafe(ID_CHARACTERS * 3 // 4)
    return device + _mac(device, email, password_hash)


def recognise(cookie: str, email: str, password_hash: str) -> str | None:
    """Return the id of a device that has signed in to this account before, or None."""
    device, mac = cookie[:ID_CHARACTERS], cookie[ID_CHARACTERS:]
    if not password_hash:
        return None
    expected = _mac(device, email, password_hash)
    return device if hmac.compare_digest(mac.encode(), expected.encode()) else None


def _mac(device: str, email: str, password_hash: str) -> str:
    message = f"device {device} of {email}".encode()
    digest = hmac.digest(password_hash.encode(), message, hashlib.sha256)
    return base64.urlsafe_b64encode(digest).decode().rstrip("=")
