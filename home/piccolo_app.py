"""Accounts as a Piccolo app."""

from pathlib import Path

from piccolo.conf.apps import AppConfig

from home.accounts.second_factor import AuthenticatorSecret
from home.commands import (
    create_user,
    migrate,
    purge_sessions,
    reset,
    revoke_sessions,
    seed,
    set_password,
    setup,
    verify,
)
from home.tables import Session, User, UserPreference

APP_CONFIG = AppConfig(
    app_name="home",
    migrations_folder_path=Path(__file__).parent / "piccolo_migrations",
    table_classes=[User, UserPreference, Session, AuthenticatorSecret],
    migration_dependencies=["audit.piccolo_app"],
    commands=[
        migrate,
        verify,
        create_user,
        set_password,
        setup,
        seed,
        reset,
        purge_sessions,
        revoke_sessions,
    ],
)
