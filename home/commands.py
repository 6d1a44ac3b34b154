"""`piccolo home ...`: what an administrator does at a terminal."""

from __future__ import annotations

import secrets
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import asyncpg

from audit.cli import CommandError, WrongOption, command
from audit.errors import Refused
from audit.printable import printable
from home.accounts import passwords, sessions
from home.accounts.registration import is_taken
from home.accounts.seeds import SEED_PASSWORD, seed_people
from home.database import schema
from home.drill.command import drill as drill
from home.migrate_command import apply_pending
from home.migrate_command import migrate as migrate
from home.services import Services
from home.tables import User, normalise_email
from home.terminal import ask, read_password

FIRST_EMAIL = "admin@example.com"
NO_ADDRESS = "this is not a valid e-mail address"
ACCOUNTS = """
    SELECT email, array_remove(ARRAY[
        CASE WHEN is_superuser THEN 'superuser' WHEN is_admin THEN 'administrator' END,
        CASE WHEN is_auditor THEN 'auditor' END,
        CASE WHEN is_service THEN 'service' END,
        CASE WHEN NOT is_approved THEN 'awaits approval' END,
        CASE WHEN is_disabled THEN 'disabled' END], NULL) AS marks
    FROM users ORDER BY email
"""


class EmailTaken(CommandError):
    """There is already an account with this e-mail address."""


@command
async def verify(services: Services) -> None:
    """Compare the live schema with what the migrations declare. Prints one line for each
    difference and exits 1, or exits 0. Changes nothing; needs the right to create a schema."""
    found = await schema.differences(services.db)
    for line in found:
        print(line)
    if found:
        sys.exit(1)
    print("the schema is as declared")


@command
async def create_user(
    email: str = "",
    display_name: str = "",
    admin: bool = False,
    superuser: bool = False,
    service: bool = False,
    password_stdin: bool = False,
) -> None:
    """Create an approved account. The first account ever is an administrator and superuser.
    The password is asked for, or read from standard input; it is never an argument.

    :param email: asked for when it is missing
    :param display_name: what others see
    :param admin: may use the back office
    :param superuser: may change other people's accounts; implies admin
    :param service: of a program: it has no password, and acts by tokens
    :param password_stdin: read the password from standard input (--password-stdin works too)

    """
    first = not await User.exists()
    email = normalise_email(email or ask("E-mail: "))
    if not email.isprintable():
        raise CommandError(NO_ADDRESS)
    if service:
        if admin or superuser:
            raise WrongOption("a service account gets rights by change_permissions")
        await _create(email, None, display_name=display_name or None, is_service=True)
        print(f"created {email}, a service account")
        return
    password = read_password(password_stdin)
    rights = {"is_admin": admin or superuser or first, "is_superuser": superuser or first}
    await _create(email, password, display_name=display_name or None, **rights)
    print(f"created {email}" + (", an administrator" if rights["is_admin"] else ""))


@command
async def create_token(
    services: Services, email: str, name: str, scopes: str = "read", days: int = 90
) -> None:
    """Make a token by which a program acts for an account, and print it this once. The application
    takes tokens where API_TOKENS is set.

    :param email: of the account
    :param name: of the program, as the trail shows it
    :param scopes: some of read, write, sync, trail, with commas between them
    :param days: until it is over, at most 366

    """
    from home.accounts import tokens

    chosen = [each.strip() for each in scopes.split(",")]
    try:
        made = await tokens.create(services.db, None, await _find(email), name, chosen, days)
    except Refused as error:
        raise CommandError(str(error)) from None
    print(made)


@command
async def revoke_tokens(services: Services, email: str) -> None:
    """End all tokens of an account.

    :param email: whose tokens

    """
    from home.accounts import tokens

    print(f"ended {await tokens.end_all(services.db, await _find(email))} tokens")


@command
async def set_password(email: str, password_stdin: bool = False) -> None:
    """Give a person another password, which ends their sessions: for who forgot it, and who came
    from a directory. It is asked for, or read from standard input; it is never an argument.

    :param email: whose password
    :param password_stdin: read the password from standard input (--password-stdin works too)

    """
    user_id = await _find(email)
    try:
        await User.update_password(user_id, read_password(password_stdin))
    except passwords.PasswordRefused as error:
        raise CommandError(str(error)) from None
    print(f"{normalise_email(email)} has another password, and no sessions")


@command
async def list_users(services: Services) -> None:
    """List all accounts: who may sign in, and what else they may."""
    for row in await services.db.fetch(ACCOUNTS):
        print(printable(row["email"]), *(row["marks"] or ["member"]), sep="\t")


@command
async def change_permissions(
    services: Services,
    email: str,
    admin: str = "",
    superuser: str = "",
    auditor: str = "",
    approved: str = "",
    disabled: str = "",
) -> None:
    """Give or take a person's rights, as in --admin=yes or --disabled=no.

    :param email: whose rights
    :param admin: may use the back office
    :param superuser: may change other people's accounts
    :param auditor: may read the trail, people and runs, and change nothing
    :param approved: an administrator let this person in
    :param disabled: kept out, for now or for good

    """
    asked = {
        User.is_admin: ("admin", admin),
        User.is_superuser: ("superuser", superuser),
        User.is_auditor: ("auditor", auditor),
        User.is_approved: ("approved", approved),
        User.is_disabled: ("disabled", disabled),
    }
    changes: dict[Any, Any] = {
        column: _yes_or_no(*given) for column, given in asked.items() if given[1]
    }
    if not changes:
        raise WrongOption(
            "give at least one of --admin, --superuser, --auditor, --approved, --disabled"
        )
    await User.update(changes).where(User.id == await _find(email))
    print(f"changed {normalise_email(email)}")


@command
async def setup(services: Services) -> None:
    """Migrate, and make the first administrator if there is no account yet. The password is printed
    this once. Run again, it changes nothing."""
    await apply_pending(services)
    if await User.exists():
        return
    password = secrets.token_urlsafe(15)
    try:
        await _create(FIRST_EMAIL, password, is_admin=True, is_superuser=True)
    except EmailTaken:  # by another set-up at the same moment, which printed its password
        return
    print(f"\n  First administrator: {FIRST_EMAIL}\n  Password, shown only now: {password}\n")


@command
async def seed(services: Services) -> None:
    """Load development data: people in every state. Run again, it adds nothing. Refuses in
    production, since the password of these people is known."""
    if services.db.settings.environment != "development":
        raise CommandError("seed is for development: its people have a known password")
    created = await seed_people()
    print(f"created {created} people; their password is {SEED_PASSWORD}")


@command
async def reset(services: Services, force: bool = False) -> None:
    """Drop all tables of this application with their data, and build them anew, whatever has become
    of them. All of it happens, or nothing.

    :param force: do it outside development, too

    """
    if services.db.settings.environment != "development" and not force:
        raise CommandError("reset deletes all data: outside development it needs --force")
    await schema.rebuild(services.db)
    print("dropped and rebuilt")


@command
async def new_app(name: str) -> None:
    """Write a package with one of each thing that an app can bring: a table on the trail, a form,
    operations of the API, a page, a panel, a job, a sync source, settings, a command and tests. It
    is registered in piccolo_conf.py. Change it, and delete what you do not need.

    :param name: of the package: small letters, digits and _

    """
    from home.new_app.writing import write_app

    written = write_app(Path.cwd(), name)
    for path in written.files:
        print(f"wrote {path}")
    print(f"added one line to {written.edited}")
    print("next: piccolo home migrate; then docs/building.md says what is what")


@command
async def purge_sessions(services: Services) -> None:
    """Remove sessions that are over. The application does so every ten minutes by itself."""
    print(f"removed {await sessions.purge(services.db)} sessions")


@command
async def revoke_sessions(services: Services, email: str = "", everybody: bool = False) -> None:
    """End all sessions of a person, or of everybody: who was signed in has to sign in again.

    :param email: whose sessions
    :param everybody: all there are, for example after a leak

    """
    if bool(email) == everybody:
        raise WrongOption("give either --email=... or --everybody")
    user_id = await _find(email) if email else None
    print(f"ended {await sessions.end_all(services.db, user_id)} sessions")


def _yes_or_no(option: str, text: str) -> bool:
    if text not in ("yes", "no"):
        raise WrongOption(f"--{option} is yes or no")
    return text == "yes"


async def _find(email: str) -> int:
    found = await User.select(User.id).where(User.email == normalise_email(email)).first()
    if found is None:
        raise CommandError("there is no account with this e-mail address")
    return cast(int, found["id"])


async def _create(email: str, password: str | None, **columns: Any) -> None:
    """Store an account; one without a password is a service account."""
    columns |= {"is_approved": True, "approved_at": datetime.now(UTC)}
    try:
        if password is None:
            await User.store(email, "", **columns)
        else:
            await User.create_user(email, password, **columns)
    except passwords.PasswordRefused as error:
        raise CommandError(str(error)) from None
    except asyncpg.UniqueViolationError as error:
        if not is_taken(error):
            raise
        raise EmailTaken("there is already an account with this e-mail address") from None
    except (asyncpg.CheckViolationError, asyncpg.DataError):
        raise CommandError(NO_ADDRESS) from None
