"""Settings of mail and webhooks: what their texts may be."""

from __future__ import annotations

import base64
import binascii
from urllib.parse import urlsplit

from pydantic import SecretStr


def address_of_ours(value: str | None) -> str | None:
    """Return the address at which people reach the application, without a slash at its end."""
    if value is not None and not is_web_address(value, plain=True):
        raise ValueError("the address that people type, such as https://tools.example.com")
    return value and value.rstrip("/")


def smtp_address(value: SecretStr | None) -> SecretStr | None:
    """Return the address of a mail server."""
    if value is None:
        return None
    try:
        parts = urlsplit(value.get_secret_value())
        is_one = parts.scheme in ("smtp", "smtps") and parts.hostname and parts.port != 0
    except ValueError:
        is_one = False
    if not is_one:
        raise ValueError("write it like smtps://user:password@mail.example.com:465")
    return value


def webhook_key(value: SecretStr | None) -> SecretStr | None:
    """Return a key as Standard Webhooks wants it: whsec_ and 24 to 64 bytes in base 64."""
    if value is None:
        return None
    try:
        text = value.get_secret_value().removeprefix("whsec_")
        key = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not 24 <= len(key) <= 64:
        raise ValueError('make one: echo "whsec_$(openssl rand -base64 32)"')
    return value


def is_web_address(text: str, *, plain: bool) -> bool:
    """Return whether it is an https address, or with `plain` an http one."""
    try:
        parts = urlsplit(text)
    except ValueError:
        return False
    return bool(parts.hostname) and parts.scheme in ("https", *(["http"] if plain else []))
