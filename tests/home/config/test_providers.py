"""Settings of identity providers, whose names hold the provider's."""

from __future__ import annotations

from pathlib import Path

import pytest

from home.config.providers import Role
from home.config.settings import load_settings
from home.config.sources import SettingsError

GOOD = {
    "OIDC_ACME_ISSUER": "https://id.example.com/realms/staff",
    "OIDC_ACME_CLIENT_ID": "groundwork",
    "OIDC_ACME_CLIENT_SECRET": "the client's secret",
}


@pytest.fixture(autouse=True)
def good(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in GOOD.items():
        monkeypatch.setenv(name, value)


def test_what_is_needed_and_what_follows() -> None:
    [found] = load_settings().identity_providers
    assert (found.name, found.shown, found.issuer) == ("acme", "Acme", GOOD["OIDC_ACME_ISSUER"])
    assert found.scopes == ("openid", "email", "profile")
    assert not (found.approves)
    assert not (found.links_by_email)
    assert not (found.trusts_email)
    assert not (found.clerk)


def test_all_there_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("out of a file\n", encoding="utf-8")
    monkeypatch.delenv("OIDC_ACME_CLIENT_SECRET")
    more = {
        "CLIENT_SECRET_FILE": str(tmp_path / "secret"), "TITLE": "Staff", "SCOPES": "email groups",
        "ROLES": "groups=the admins:admin ,https://x/y=1:auditor",
        "APPROVES": "true", "SECOND_FACTOR": "mfa, otp", "CLERK": "1",
    }  # fmt: skip
    for name, value in more.items():
        monkeypatch.setenv(f"OIDC_ACME_{name}", value)
    monkeypatch.setenv("OIDC_OTHER_ISSUER", "http://127.0.0.1:9000")
    monkeypatch.setenv("OIDC_OTHER_CLIENT_ID", "us")
    monkeypatch.setenv("OIDC_OTHER_CLIENT_SECRET", "another")
    settings = load_settings()
    acme, other = settings.identity_providers
    assert acme.scopes == ("openid", "email", "groups")
    assert acme.roles == (
        Role("groups", "the admins", "admin"), Role("https://x/y", "1", "auditor"),
    )  # fmt: skip
    assert acme.second_factor == ("mfa", "otp")
    assert (acme.shown, acme.approves, acme.clerk, other.clerk) == ("Staff", True, True, False)
    assert {"out of a file", "another"} <= {*settings.secrets}


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("OIDC_ACME_ISSUER", "http://id.example.com", "https"),
        ("OIDC_ACME_ISSUER", "https://id.example.com/?a=b", "https"),
        ("OIDC_ACME_ISSUER", "id.example.com", "https"),
        ("OIDC_ACME_ISSUER", "https://[", "https"),
        ("OIDC_ACME_ROLES", "groups=admins:superuser", "groups=staff-admins:admin"),
        ("OIDC_ACME_ROLES", "admins", "groups=staff-admins:admin"),
        ("OIDC_ACME_APPROVES", "perhaps", "valid boolean"),
        ("OIDC_ACME_TITLE", "x" * 41, "at most 40"),
        ("OIDC_ACME_ISSUR", "https://id.example.com", "no such setting; there are ISSUER"),
        ("OIDC_ACME_NAME", "x", "no such setting"),
        ("OIDC_ACME", "x", "OIDC_<NAME>_ISSUER"),
        ("OIDC_OTHER_CLIENT_ID", "x", "OIDC_OTHER_ISSUER: Field required"),
        ("OIDC_ACME_CLIENT_SECRET_FILE", "/nowhere", "cannot be read"),
    ],
)
def test_what_is_wrong_is_named(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, said: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match="OIDC_") as caught:
        load_settings()
    assert said in str(caught.value)
    assert "the client's secret" not in str(caught.value)


def test_a_secret_that_is_set_twice_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "secret").write_text("another", encoding="utf-8")
    monkeypatch.setenv("OIDC_ACME_CLIENT_SECRET_FILE", str(tmp_path / "secret"))
    with pytest.raises(SettingsError, match="set twice"):
        load_settings()
