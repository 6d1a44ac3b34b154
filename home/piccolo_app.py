"""Accounts as a Piccolo app."""

from pathlib import Path

from audit.app_config import AppConfig
from home.accounts.authenticator import AuthenticatorSecret
from home.accounts.tables import ApiToken, Identity, OneTimeLink
from home.outbox.tables import Message
from home.tables import Session, User, UserPreference

APP_CONFIG = AppConfig(
    app_name="home",
    migrations_folder_path=Path(__file__).parent / "piccolo_migrations",
    table_classes=[
        User,
        UserPreference,
        Session,
        AuthenticatorSecret,
        Identity,
        ApiToken,
        OneTimeLink,
        Message,
    ],
    migration_dependencies=["audit.piccolo_app"],
    commands_in="home.commands",
)
