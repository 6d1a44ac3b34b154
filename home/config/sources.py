"""Other names of settings: `DB_HOST` for `POSTGRES_HOST`, and `NAME_FILE` for secrets."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource

from audit.errors import GroundworkError

# Other names of the same values: two families for five, and uvicorn's own.
TWINS = {
    "workers": "web_concurrency",
    "postgres_host": "db_host",
    "postgres_port": "db_port",
    "postgres_db": "db_name",
    "postgres_user": "db_user",
    "postgres_password": "db_password",
}

LIBPQ_VARIABLE = re.compile("PG[A-Z]+")


def forget_libpq_variables() -> None:
    """Take PGSSLMODE, PGPORT and the like out of this process's environment.

    The driver and the embedded server would read them beside the settings, which are to decide.
    """
    for name in [name for name in os.environ if LIBPQ_VARIABLE.fullmatch(name)]:
        del os.environ[name]


def secret_names(kind: type[BaseModel]) -> list[str]:
    """Return the names of the fields that hold a secret."""
    return [
        name
        for name, field in kind.model_fields.items()
        if SecretStr in (field.annotation, *get_args(field.annotation))
    ]


class SettingsError(GroundworkError):
    """Settings that cannot be used; the message names each variable and the mend, never a value."""


class OtherNames(PydanticBaseSettingsSource):
    """The other names of a variable: `DB_HOST` for `POSTGRES_HOST`, `NAME_FILE` for secrets."""

    def __init__(
        self, settings_cls: type[BaseSettings], variables: Mapping[str, str | None]
    ) -> None:
        super().__init__(settings_cls)
        self.variables = variables
        self.secrets = secret_names(settings_cls)

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        found: dict[str, str] = {}
        for name in filter(None, (field_name, TWINS.get(field_name))):
            # A newline at the end of a secret comes from the editor or the secret store.
            if value := (self.variables.get(name) or "").rstrip("\r\n"):
                found[name] = value
            if field_name in self.secrets and (path := self.variables.get(f"{name}_file")):
                found[f"{name}_file"] = read_secret(f"{name}_file", path)
        names = " and ".join(sorted(name.upper() for name in found))
        if len(set(found.values())) > 1:
            raise SettingsError(f"{names}: both are set and they differ; keep one")
        if any(
            "\ud800" <= character <= "\udfff" for value in found.values() for character in value
        ):
            raise SettingsError(f"{names}: is not UTF-8 text")
        return next(iter(found.values()), None), field_name, False

    def __call__(self) -> dict[str, Any]:
        names = {*TWINS, *self.secrets}
        fields = {name: self.settings_cls.model_fields[name] for name in names}
        values = {name: self.get_field_value(field, name)[0] for name, field in fields.items()}
        return {name: value for name, value in values.items() if value}


def read_secret(name: str, path: str) -> str:
    """Return the secret in a file, without the line feed at its end.

    Raises:
        SettingsError: it cannot be read.
    """
    with suppress(OSError, ValueError):
        return Path(path).read_text(encoding="utf-8-sig").rstrip("\r\n")
    raise SettingsError(
        f"{name.upper()}: names a file that cannot be read as text; check path and rights"
    )
