"""What the API takes and answers."""

from __future__ import annotations

from typing import Annotated

from pydantic import AwareDatetime, BaseModel, Field, JsonValue, RootModel

from home.accounts.profile import Name
from home.web.bodies import Body


class Credentials(Body):
    email: Annotated[str, Field(max_length=255)]
    password: Annotated[str, Field(max_length=1024)]


class SignIn(Credentials):
    code: Annotated[str, Field(max_length=64)] | None = None


class ChangePassword(Body):
    old: Annotated[str, Field(max_length=1024)]
    new: Annotated[str, Field(max_length=1024)]


class Register(Credentials):
    display_name: Name | None = None
    organization: Name | None = None


class JsonObject(RootModel[dict[str, JsonValue]]):
    """Any JSON object."""


class ProfileOut(BaseModel):
    """A person, as they signed in."""

    id: int
    email: str
    display_name: str | None
    organization: str | None
    is_admin: bool
    is_superuser: bool
    is_auditor: bool


class Token(BaseModel):
    """The token that a request needs besides the cookie, to change something."""

    csrf_token: str


class Me(ProfileOut, Token):
    """The own profile."""


class OneSession(BaseModel):
    """A device that is signed in."""

    id: str
    is_this_one: bool
    user_agent: str | None
    ip_address: str | None
    created_at: AwareDatetime
    last_seen_at: AwareDatetime | None
    expire: AwareDatetime


class Sessions(BaseModel):
    """The one used last first."""

    sessions: list[OneSession]


class SessionsEnded(BaseModel):
    """The number of sessions that ended."""

    ended: int


class Message(BaseModel):
    """A sentence for a person."""

    message: str
