"""Forms of the back office: what an administrator does with people. Each says what it does, and
answers with a sentence; what the database refuses has a sentence, too.
"""

from __future__ import annotations

import secrets
from datetime import UTC, datetime
from functools import partial

from piccolo_admin.endpoints import FormConfig
from pydantic import BaseModel, Field
from starlette.requests import Request

from audit.errors import Refused
from home.accounts import rights
from home.accounts.decisions import DECISIONS, REASONS, decide_about_one
from home.database.engine import Engine
from home.services import Services
from home.tables import User, normalise_email
from home.web.words import plural

GROUP = "People"
# What the menu says of each decision.
DESCRIPTIONS = {
    "approve": "Lets somebody in who asked for an account.",
    "reject": "Turns a request for an account down, or takes an approval back. Sessions end at"
    " once.",
    "disable": "Keeps somebody out, for now or for good. Sessions end at once; nothing is deleted.",
    "enable": "Takes back that somebody was disabled.",
}


class Person(BaseModel):
    """Whom it is about."""

    email: str = Field(title="E-mail address", max_length=255)


class NewPerson(Person):
    display_name: str = Field("", title="Name", max_length=255)
    is_admin: bool = Field(False, title="May use the back office")
    is_superuser: bool = Field(False, title="May change other people's accounts and rights")


async def find(request: Request, email: str) -> User:
    """Return who it is about, if whoever asks may decide about them.

    Raises:
        Refused: there is nobody, or it takes a superuser.
    """
    person = await User.objects().where(User.email == normalise_email(email)).first()
    if person is None:
        raise Refused("There is no account with this e-mail address.")
    if (person.is_admin or person.is_superuser) and not _is_superuser(request):
        raise Refused(REASONS["administrator"])
    return person


def decision_form(db: Engine, name: str, description: str) -> FormConfig:
    """Return the form of one of the decisions."""
    decision = DECISIONS[name]

    async def decide(request: Request, data: Person) -> str:
        person = await find(request, data.email)
        outcome = await decide_about_one(db, request.user.user_id, decision, person.id)
        told = f"{person.email} {decision.outcome}"
        return told if outcome.done else f"Nothing to do: {told}"

    return FormConfig(
        name=f"{name.capitalize()} a person",
        pydantic_model=Person,
        endpoint=decide,
        description=description,
        form_group=GROUP,
    )


async def revoke_sessions(db: Engine, request: Request, data: Person) -> str:
    """End all sessions of a person."""
    person = await find(request, data.email)
    by = request.user.user_id
    outcome = await decide_about_one(db, by, DECISIONS["end_sessions"], person.id)
    return f"Ended {plural(outcome.sessions, 'session')} of {person.email}."


async def remove_second_factor(db: Engine, request: Request, data: Person) -> str:
    """Take a second factor away; the database ends the sessions with it."""
    person = await find(request, data.email)
    if not await rights.remove_second_factor(db, request.user.user_id, person.id):
        raise Refused(f"{person.email} has no second factor.")
    return f"{person.email} signs in with the password alone now, and has been signed out."


async def give_password(db: Engine, request: Request, data: Person) -> str:
    """Store a new password, which ends the sessions, and tell it once."""
    person = await find(request, data.email)
    password = await rights.give_password(db, request.user.user_id, person.id)
    return f"{person.email} has been signed out. New password, shown only now: {password}"


async def create_person(request: Request, data: NewPerson) -> str:
    """Store an approved account, and tell its first password once."""
    if (data.is_admin or data.is_superuser) and not _is_superuser(request):
        raise Refused("Only superusers appoint administrators.")
    password = secrets.token_urlsafe(12)
    person = await User.create_user(
        data.email,
        password,
        display_name=data.display_name or None,
        is_admin=data.is_admin,
        is_superuser=data.is_superuser,
        is_approved=True,
        approved_by=request.user.user_id,
        approved_at=datetime.now(UTC),
    )
    return f"Created {person.email}. First password, shown only now: {password}"


def forms(services: Services) -> list[FormConfig]:
    """Return the forms about people."""
    return [
        *[decision_form(services.db, *each) for each in DESCRIPTIONS.items()],
        FormConfig(
            name="Revoke sessions",
            pydantic_model=Person,
            endpoint=partial(revoke_sessions, services.db),
            description="Signs somebody out on all their devices. They can sign in again.",
            form_group=GROUP,
        ),
        FormConfig(
            name="Create a person",
            pydantic_model=NewPerson,
            endpoint=create_person,
            description="Makes an approved account, with a first password that is shown once.",
            form_group=GROUP,
        ),
        FormConfig(
            name="Give a new password",
            pydantic_model=Person,
            endpoint=partial(give_password, services.db),
            description="For somebody who forgot theirs, or came from the directory without one."
            " Make sure it is them. Their sessions end at once.",
            form_group=GROUP,
        ),
        FormConfig(
            name="Remove a second factor",
            pydantic_model=Person,
            endpoint=partial(remove_second_factor, services.db),
            description="For somebody who lost phone and recovery codes. Make sure it is them.",
            form_group=GROUP,
        ),
    ]


def _is_superuser(request: Request) -> bool:
    return bool(request.user.user.is_superuser)
