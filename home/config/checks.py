"""What is allowed and still looks like a mistake: said by name when the server starts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from difflib import get_close_matches

from pydantic_settings import DotEnvSettingsSource, EnvSettingsSource

from home.config.settings import Settings
from home.config.sources import TWINS, secret_names

# Platforms and images set names of their own that begin like these: only a near miss is a mistake.
SHARED_PREFIXES = ("database_", "postgres_", "log_", "web_")
NEAR, VERY_NEAR = 0.6, 0.8  # as difflib measures
NEEDED_IN_PRODUCTION = {
    "allowed_hosts": "requests for any host name are answered",
    "mfa_key": "nobody can set up a second factor",
    "audit_seal_key": "whoever can write to the database can make seals, too",
}


def settings_warnings(settings: Settings) -> Iterator[tuple[str, dict[str, str | int]]]:
    """Yield events and fields for the log. They hold names, and no value that could be a secret."""
    kind = type(settings)
    given = {**DotEnvSettingsSource(kind).env_vars, **EnvSettingsSource(kind).env_vars}
    yield from _unknown(settings, given)
    if (text := given.get("db_pool_max")) and int(text) != (used := settings.db_pool_max):
        yield "setting_out_of_range", {"name": "DB_POOL_MAX", "given": int(text), "used": used}
    if settings.environment == "production":
        for name, consequence in NEEDED_IN_PRODUCTION.items():
            if not getattr(settings, name, True):
                yield "setting_missing", {"name": name.upper(), "consequence": consequence}


def _unknown(
    settings: Settings, given: Mapping[str, str | None]
) -> Iterator[tuple[str, dict[str, str | int]]]:
    fields = type(settings).model_fields
    known = {*fields, *(TWINS[name] for name in TWINS if name in fields)}
    known |= {
        f"{each}_file"
        for name in secret_names(type(settings))
        for each in (name, TWINS.get(name, name))
    }
    prefixes = tuple({name.partition("_")[0] + "_" for name in known if "_" in name})
    for name in sorted(given):
        if name in known or not name.startswith(prefixes):
            continue
        is_shared = name.startswith(SHARED_PREFIXES)
        near = get_close_matches(name, known, 1, VERY_NEAR if is_shared else NEAR)
        if near:
            yield "setting_unknown", {"name": name.upper(), "did_you_mean": near[0].upper()}
        elif not is_shared:
            yield "setting_unknown", {"name": name.upper()}
