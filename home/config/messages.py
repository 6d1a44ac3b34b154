"""Settings of mail and webhooks: what their texts may be."""

from __future__ import annotations

import base64
import binascii
import re
from email.utils import parseaddr
from urllib.parse import urlsplit

from pydantic import SecretStr

LONGEST = 500
# Nothing in it means something else in a header (RFC 5322).
MAIL = re.compile(r"""[^@\s,;:<>()\[\]"\\\x00-\x1f\x7f]+@[^@\s,;:<>()\[\]"\\\x00-\x1f\x7f]+""")


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
        has_place = bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is none
        return False
    is_one = text.isascii() and text.isprintable() and not re.search(r"""[\s"'<>#]""", text)
    schemes = ("https", "http") if plain else ("https",)
    return has_place and is_one and len(text) <= LONGEST and parts.scheme in schemes


def mail_sender(value: str | None) -> str | None:
    """Return from whom mails are: an address, or a name and an address."""
    if value is not None and not (value.isprintable() and is_mail_address(parseaddr(value)[1])):
        raise ValueError("write it like tools@example.com, or Tools <tools@example.com>")
    return value


def mail_addresses(values: tuple[str, ...]) -> tuple[str, ...]:
    """Return addresses that mails are sent to."""
    if not all(map(is_mail_address, values)):
        raise ValueError("write e-mail addresses, with commas between them")
    return values


def is_mail_address(text: str) -> bool:
    """Return whether a mail can be sent there."""
    return len(text) <= 255 and MAIL.fullmatch(text) is not None
