"""Identity providers that people sign in with, from `OIDC_<NAME>_ISSUER` and the like."""

from __future__ import annotations

import re
from collections.abc import Mapping
from ipaddress import ip_address
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource

from home.config.sources import SettingsError, read_secret

VARIABLE = re.compile(r"oidc_([a-z0-9]{1,30})_(\w+)")
ROLE = re.compile(r"([^=\s][^=]*)=(.+):(admin|auditor)")


class Role(NamedTuple):
    """A right that follows from a claim.

    Args:
        claim: its name; its value is a text, or a list with this text in it.
        role: `admin` or `auditor`. No provider makes superusers.
    """

    claim: str
    value: str
    role: str


class Provider(BaseModel):
    """An OpenID provider.

    Args:
        name: in addresses and on the trail.
        title: on the button.
        issuer: exactly as the provider writes it; `<issuer>/.well-known/openid-configuration`
            describes it.
        approves: whom it sends needs no approval by an administrator.
        links_by_email: an account of the same address is taken for the person's, if the provider
            has verified the address.
        trusts_email: its addresses count as verified though it does not say so.
        second_factor: texts of `acr`, or of `amr`, that count as the second factor.
        clerk: accounts are also known by `users.clerk_id`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    name: str
    issuer: str
    client_id: str = Field(min_length=1, max_length=500)
    client_secret: SecretStr
    title: str = Field(default="", max_length=40, pattern=r"^[^\x00-\x1f\x7f]*$")
    scopes: tuple[str, ...] = ("openid", "email", "profile")
    roles: tuple[Role, ...] = ()
    approves: bool = False
    links_by_email: bool = False
    trusts_email: bool = False
    second_factor: tuple[str, ...] = ()
    clerk: bool = False

    @field_validator("issuer")
    @classmethod
    def _is_an_address(cls, value: str) -> str:
        if not is_secure_address(value) or urlsplit(value).query:
            raise ValueError("write the https address as the provider does, without a query")
        return value

    @field_validator("scopes", "second_factor", mode="before")
    @classmethod
    def _texts(cls, value: object) -> object:
        return tuple(re.split(r"[\s,]+", value.strip())) if isinstance(value, str) else value

    @field_validator("scopes")
    @classmethod
    def _has_openid(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return value if "openid" in value else ("openid", *value)

    @field_validator("roles", mode="before")
    @classmethod
    def _roles(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        found = [ROLE.fullmatch(part.strip()) for part in value.split(",") if part.strip()]
        if not all(found):
            raise ValueError("write it like groups=staff-admins:admin,groups=audit:auditor")
        return tuple(Role(*match.groups()) for match in found if match is not None)

    @property
    def shown(self) -> str:
        """Return what people call it."""
        return self.title or self.name.title()


class ProvidersSource(PydanticBaseSettingsSource):
    """The setting `identity_providers`, out of variables whose names hold each provider's."""

    def __init__(
        self, settings_cls: type[BaseSettings], variables: Mapping[str, str | None]
    ) -> None:
        super().__init__(settings_cls)
        self.variables = variables

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        return None, field_name, False

    def __call__(self) -> dict[str, Any]:
        given: dict[str, dict[str, str]] = {}
        for variable, value in self.variables.items():
            if variable.startswith("oidc_") and value:
                self._read(variable, value, given)
        found = tuple(_provider(name, values) for name, values in sorted(given.items()))
        return {"identity_providers": found} if found else {}

    def _read(self, variable: str, value: str, given: dict[str, dict[str, str]]) -> None:
        match = VARIABLE.fullmatch(variable)
        if match is None:
            raise SettingsError(f"{variable.upper()}: write it as OIDC_<NAME>_ISSUER and the like")
        name, part = match.groups()
        if part == "client_secret_file":
            part, value = "client_secret", read_secret(variable, value)
        if part not in Provider.model_fields or part == "name":
            known = ", ".join(each.upper() for each in Provider.model_fields if each != "name")
            raise SettingsError(f"{variable.upper()}: there is no such setting; there are {known}")
        if part in (values := given.setdefault(name, {})):
            raise SettingsError(f"{variable.upper()}: is set twice; keep one")
        values[part] = value


def _provider(name: str, values: Mapping[str, str]) -> Provider:
    try:
        return Provider.model_validate({"name": name, **values})
    except ValidationError as error:
        problems = [
            f"OIDC_{name}_{problem['loc'][0]}".upper()
            + f": {problem['msg'].removeprefix('Value error, ')}"
            for problem in error.errors(include_input=False)
        ]
    raise SettingsError("\n".join(problems))


def is_secure_address(text: str) -> bool:
    """Return whether it is an https address, or an http one of this machine."""
    if not (text.isascii() and text.isprintable()) or " " in text:
        return False
    try:
        parts = urlsplit(text)
        host = parts.hostname or ""
    except ValueError:
        return False
    if parts.fragment or not host:
        return False
    return parts.scheme == "https" or (parts.scheme == "http" and _is_loopback(host))


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False
