"""The only reader of the environment: one frozen object, checked once, at the start."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    Field,
    SecretStr,
    ValidationError,
    create_model,
    model_validator,
)
from pydantic_core import ErrorDetails
from pydantic_settings import (
    BaseSettings,
    DotEnvSettingsSource,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from audit.log import set_up_with
from audit.settings import Keys
from home.config.dsn import Database, DsnError, from_parts, from_url
from home.config.messages import (
    address_of_ours,
    is_web_address,
    mail_addresses,
    mail_sender,
    smtp_address,
    webhook_key,
)
from home.config.providers import Provider, ProvidersSource
from home.config.sources import (
    TWINS,
    OtherNames,
    SettingsError,
    forget_libpq_variables,
    secret_names,
)
from home.config.types import Clamped, Milliseconds, Networks, Port, ProductName, Texts, Workers

ROOT = Path(__file__).resolve().parent.parent.parent

PLACEHOLDERS = frozenset(
    {
        "change-me",
        "changeme",
        "change_me",
        "password",
        "postgres",
        "secret",
        "example",
        "groundwork",
    }
)


class Settings(BaseSettings):
    """Settings with their defaults; `.env.example` explains each."""

    model_config = SettingsConfigDict(
        env_file=ROOT / ".env",
        env_file_encoding="utf-8",
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        hide_input_in_errors=True,
    )

    app_name: ProductName = "Groundwork"
    environment: Literal["development", "production"] = "development"
    listen_host: str = "127.0.0.1"
    listen_port: Port = 8000
    workers: Workers = 1
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    metrics_networks: Networks = (ip_network("127.0.0.0/8"), ip_network("::1/128"))

    trusted_proxies: Networks = ()
    allowed_networks: Networks = ()
    allowed_hosts: Texts = ()
    registration: bool = True
    mfa_required: bool = False
    mfa_key: Keys = None
    api_tokens: bool = False
    identity_providers: tuple[Provider, ...] = ()

    public_url: Annotated[str | None, AfterValidator(address_of_ours)] = None
    smtp_url: Annotated[SecretStr | None, AfterValidator(smtp_address)] = None
    mail_from: Annotated[str | None, AfterValidator(mail_sender)] = None
    notify: Annotated[Texts, AfterValidator(mail_addresses)] = ()
    webhook_url: Texts = ()
    webhook_secret: Annotated[SecretStr | None, AfterValidator(webhook_key)] = None
    webhook_private: bool = False

    database_url: SecretStr | None = None
    database_replica_url: SecretStr | None = None
    drill_url: SecretStr | None = None
    postgres_host: str | None = None
    postgres_port: Port | None = None
    postgres_db: str | None = None
    postgres_user: str | None = None
    postgres_password: SecretStr | None = None

    db_pooler: Literal["none", "transaction"] = "none"
    db_pool_min: Annotated[int, Field(ge=0)] = 2
    db_pool_max: Clamped = 20
    db_idle_timeout_ms: Milliseconds = 30_000
    db_connection_timeout_ms: Milliseconds = 2_000
    db_command_timeout_ms: Milliseconds = 5_000
    db_slow_query_ms: Milliseconds = 1_000
    migrate_max_lock_ms: Annotated[int, Field(ge=0, le=3_600_000)] = 500

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        assert isinstance(env_settings, EnvSettingsSource)
        assert isinstance(dotenv_settings, DotEnvSettingsSource)
        variables = {**dotenv_settings.env_vars, **env_settings.env_vars}
        other_names = OtherNames(settings_cls, variables)
        providers = ProvidersSource(settings_cls, variables)
        return init_settings, other_names, providers, env_settings, dotenv_settings

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.db_pool_min > self.db_pool_max:
            if "db_pool_min" in self.model_fields_set:
                raise ValueError("DB_POOL_MIN: must not be above DB_POOL_MAX (which is at most 20)")
            object.__setattr__(self, "db_pool_min", self.db_pool_max)  # the default follows
        try:
            database = self.database
        except DsnError as error:
            raise ValueError(f"DATABASE_URL: {error}") from None
        if self.mfa_required and self.mfa_key is None:
            raise ValueError("MFA_KEY: MFA_REQUIRED needs it; make one: openssl rand -hex 32")
        if problem := self._messages_problem():
            raise ValueError(problem)
        try:
            replica = self.replica
        except DsnError as error:
            raise ValueError(f"DATABASE_REPLICA_URL: {error}") from None
        if replica is not None and database is None:
            raise ValueError("DATABASE_REPLICA_URL: needs DATABASE_URL, whose replica it is")
        if self.workers > 1 and sys.platform == "win32":
            raise ValueError("WORKERS: more than one needs Linux, macOS or another Unix")
        if self.environment == "production":
            if database is None:
                raise ValueError(
                    "DATABASE_URL: set it; the embedded PostgreSQL is not for production"
                )
            if (database.args.get("password") or "").lower() in PLACEHOLDERS:
                raise ValueError(
                    "DATABASE_URL or POSTGRES_PASSWORD: holds a placeholder password; "
                    "set a real one before production"
                )
        return self

    def _messages_problem(self) -> str | None:
        if self.smtp_url is not None and (self.mail_from is None or self.public_url is None):
            return "SMTP_URL: needs MAIL_FROM, and PUBLIC_URL, which links in mails lead to"
        if self.webhook_url and (self.webhook_secret is None or self.public_url is None):
            return "WEBHOOK_URL: needs WEBHOOK_SECRET, and PUBLIC_URL, which links lead to"
        for address in self.webhook_url:
            if not is_web_address(address, plain=self.webhook_private):
                return "WEBHOOK_URL: https addresses; http ones with WEBHOOK_PRIVATE=true"
        return None

    @property
    def database(self) -> Database | None:
        """Return where the database is; None means the embedded PostgreSQL."""
        if self.database_url is not None:
            return self._from_url(self.database_url, "primary")
        parts = {
            "host": self.postgres_host,
            "port": self.postgres_port,
            "database": self.postgres_db,
            "user": self.postgres_user,
            "password": self.postgres_password and self.postgres_password.get_secret_value(),
        }
        return from_parts(parts) if any(parts.values()) else None

    @property
    def replica(self) -> Database | None:
        """Return where reads that may be stale can go."""
        url = self.database_replica_url
        return self._from_url(url, "standby") if url else None

    def _from_url(self, url: SecretStr, wanted: str) -> Database:
        database = from_url(url.get_secret_value(), wanted)
        session = database.args.get("server_settings", {})
        if self.db_pooler == "transaction" and session.pop("options", None):
            return Database(database.args, (*database.ignored, "options"))  # poolers refuse it
        return database

    @property
    def secrets(self) -> tuple[str, ...]:
        """Return the values that must never be shown, for the redaction of logs."""
        found = [getattr(self, name) for name in secret_names(type(self))]
        values = [secret.get_secret_value() for secret in found if secret is not None]
        # Several keys in one setting are each a secret.
        values += [part.strip() for value in values for part in value.split(",") if "," in value]
        values += [each.client_secret.get_secret_value() for each in self.identity_providers]
        databases = filter(None, (self.database, self.replica))
        values += [each.args["password"] for each in databases if each.args.get("password")]
        return tuple(values)


def load_settings(parts: Sequence[type[BaseModel]] = (), **overrides: Any) -> Settings:
    """Read and check all settings. Variables of libpq do not count beside them, and are dropped.

    Args:
        parts: settings of apps, whose fields are read along with ours.
        overrides: values that win over the environment.

    Raises:
        SettingsError: one line for each variable that is wrong.
    """
    forget_libpq_variables()
    bases: tuple[Any, ...] = (*parts, Settings)
    kind: type[Settings] = create_model("Settings", __base__=bases) if parts else Settings
    try:
        settings = kind(**overrides)
        set_up_with(lambda: _set_up_logs(settings))
        return settings
    except UnicodeDecodeError:
        problems = [".env: is not UTF-8 text; save it as UTF-8"]
    except OSError:
        problems = [".env: cannot be read; check its rights"]
    except ValidationError as error:
        problems = [_describe(problem) for problem in error.errors(include_input=False)]
    # Raised out here, because an exception drags along the one it was raised in, with its values.
    raise SettingsError("\n".join(problems))


def _set_up_logs(settings: Settings) -> None:
    """Send what commands log to standard error: their results may be read by a program."""
    from home.config.logs import set_up_logs

    production = settings.environment == "production"
    set_up_logs(production=production, level=settings.log_level, secrets=settings.secrets)


def _describe(problem: ErrorDetails) -> str:
    message = problem["msg"].removeprefix("Value error, ")
    names = [str(part).upper() for part in problem["loc"][:1]]
    names += [TWINS[name.lower()].upper() for name in names if name.lower() in TWINS]
    return f"{' or '.join(names)}: {message}" if names else message
