"""Settings of sync runs and of the directory."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BaseModel, Field, SecretStr

from home.config.types import Texts


def _modules(names: tuple[str, ...]) -> tuple[str, ...]:
    if not all(part.isidentifier() for name in names for part in name.split(".")):
        raise ValueError("name Python modules, separated by commas: crm.sync,payroll.sync")
    return names


class SyncSettings(BaseModel):
    """Settings with their defaults; `.env.example` explains each."""

    sync_sources: Annotated[Texts, AfterValidator(_modules)] = ()
    sync_scheduler: bool = True
    directory_url: str | None = None
    directory_token: SecretStr | None = None
    directory_max_disable: Annotated[int, Field(ge=0, le=100)] = 10

    @property
    def source_modules(self) -> tuple[str, ...]:
        """Return the modules that register sources: those named, and the directory if it is set."""
        directory = ["sync_history.directory.source"] if self.directory_url else []
        return (*self.sync_sources, *directory)
