"""Settings of mail and webhooks: what cannot be used is named at the start."""

from __future__ import annotations

import pytest

from home.config.settings import load_settings
from home.config.sources import SettingsError
from home.outbox.webhooks import is_internal

GOOD = {
    "PUBLIC_URL": "https://tools.example.com/",
    "SMTP_URL": "smtps://user:p%40ss@mail.example.com:465",
    "MAIL_FROM": "Tools <tools@example.com>",
    "NOTIFY": "a@example.com, b@example.com",
    "WEBHOOK_URL": "https://hooks.example.com/x?y=1",
    "WEBHOOK_SECRET": "whsec_" + "a" * 32,
}


@pytest.fixture(autouse=True)
def good(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in GOOD.items():
        monkeypatch.setenv(name, value)


def test_what_is_good() -> None:
    settings = load_settings()
    assert settings.public_url == "https://tools.example.com"
    assert settings.notify == ("a@example.com", "b@example.com")
    assert {GOOD["SMTP_URL"], GOOD["WEBHOOK_SECRET"]} <= {*settings.secrets}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PUBLIC_URL", "http://h:99999"), ("PUBLIC_URL", "http://h h"), ("PUBLIC_URL", "tools"),
        ("PUBLIC_URL", 'http://h/"><script>'), ("PUBLIC_URL", "http://h/#f"), ("PUBLIC_URL", ""),
        ("SMTP_URL", "https://mail.example.com"), ("SMTP_URL", "smtp://h:99999"),
        ("MAIL_FROM", "a@["), ("MAIL_FROM", "nonsense"), ("MAIL_FROM", "a@b\nBcc: x@y"),
        ("MAIL_FROM", ""), ("NOTIFY", "a@["), ("NOTIFY", "a" * 600 + "@b.de"),
        ("WEBHOOK_URL", "http://hooks.example.com"), ("WEBHOOK_URL", "https://h:abc"),
        ("WEBHOOK_URL", "https://h/" + "x" * 600), ("WEBHOOK_SECRET", "whsec_short"),
        ("WEBHOOK_SECRET", "whsec_" + "ü" * 32), ("WEBHOOK_SECRET", ""),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError) as caught:
        load_settings()
    message = str(caught.value)
    assert name in message
    assert "p%40ss" not in message
    assert len(message.splitlines()) <= 2


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "10.1.2.3", "169.254.1.1", "::1", "::ffff:10.0.0.1", "::127.0.0.1",
     "64:ff9b::7f00:1", "64:ff9b:1::7f00:1", "2002:7f00:1::", "fe80::1", "0.0.0.0", "224.0.0.1"],
)  # fmt: skip
def test_what_is_internal(address: str) -> None:
    assert is_internal(address)
    assert not is_internal("93.184.216.34")
    assert not is_internal("2606:2800:220:1:248:1893:25c8:1946")
