"""Settings of the audit trail."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BaseModel, Field, SecretStr


def _long_keys(value: SecretStr | None) -> SecretStr | None:
    if value and any(len(key.strip()) < 32 for key in value.get_secret_value().split(",")):
        raise ValueError("each key needs 32 characters or more; make one: openssl rand -hex 32")
    return value


# One or more keys, separated by commas, the newest first.
Keys = Annotated[SecretStr | None, AfterValidator(_long_keys)]


class AuditSettings(BaseModel):
    """Settings with their defaults; `.env.example` explains each."""

    audit_seal_key: Keys = None
    audit_seal_interval: Annotated[int, Field(ge=0, le=86_400 * 7)] = 3_600
