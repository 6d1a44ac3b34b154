"""Settings of the audit trail."""

from __future__ import annotations

import re
from typing import Annotated, Self

from pydantic import AfterValidator, BaseModel, Field, SecretStr, model_validator

SPAN = re.compile(r"0*([1-9]\d{0,4}) +(day|week|month|year)s?", re.ASCII | re.IGNORECASE)
PLACE = re.compile(r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[\w.=-]+)*/?", re.ASCII)


def _long_keys(value: SecretStr | None) -> SecretStr | None:
    if value and any(len(key.strip()) < 32 for key in value.get_secret_value().split(",")):
        raise ValueError("each key needs 32 characters or more; make one: openssl rand -hex 32")
    return value


def _span(value: str | None) -> str | None:
    """Return a time as PostgreSQL's interval."""
    if not value:
        return None
    if (found := SPAN.fullmatch(value.strip())) is None:
        raise ValueError("write a number of days, weeks, months or years, such as 13 months")
    return f"{found[1]} {found[2].lower()}s"


def _place(value: str | None) -> str | None:
    if value and "://" in value and not PLACE.fullmatch(value):
        raise ValueError("write a folder, or s3://bucket/prefix")
    return value or None


# One or more keys, separated by commas, the newest first.
Keys = Annotated[SecretStr | None, AfterValidator(_long_keys)]
Span = Annotated[str | None, AfterValidator(_span)]
ArchivePlace = Annotated[str | None, AfterValidator(_place)]


class AuditSettings(BaseModel):
    """Settings with their defaults; `.env.example` explains each."""

    audit_seal_key: Keys = None
    audit_seal_interval: Annotated[int, Field(ge=0, le=86_400 * 7)] = 3_600
    audit_keep: Span = None
    audit_archive: ArchivePlace = None
    audit_archive_lock: Span = None

    @model_validator(mode="after")
    def _lock_needs_s3(self) -> Self:
        if self.audit_archive_lock and not (self.audit_archive or "").startswith("s3://"):
            raise ValueError("AUDIT_ARCHIVE_LOCK needs an AUDIT_ARCHIVE of s3://")
        return self
