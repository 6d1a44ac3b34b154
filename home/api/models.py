"""What the API takes and answers."""

from __future__ import annotations

from typing import Annotated, Any, TypeVar

from pydantic import (
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    RootModel,
    ValidationError,
)
from pydantic_core import to_json
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

Model = TypeVar("Model", bound=BaseModel)

NO_STORE = {"cache-control": "no-store"}

Name = Annotated[str, Field(max_length=255, pattern=r"^[^\x00-\x1f\x7f]*$")]


class Body(BaseModel):
    """What may be sent: these fields, and no others."""

    model_config = ConfigDict(extra="forbid", strict=True)


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


class Profile(Body):
    display_name: Name | None = None
    organization: Name | None = None


class JsonObject(RootModel[dict[str, JsonValue]]):
    """Any JSON object."""


class Profiled(BaseModel):
    """Who somebody is."""

    id: int
    email: str
    display_name: str | None
    organization: str | None
    is_admin: bool
    is_superuser: bool


class Token(BaseModel):
    """What a request needs besides the cookie, to change something."""

    csrf_token: str


class Me(Profiled, Token):
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


class Ended(BaseModel):
    """How many sessions ended."""

    ended: int


class Message(BaseModel):
    """A sentence for a person."""

    message: str


async def body_of(request: Request, model: type[Model], if_empty: bytes = b"") -> Model:
    """The body, checked before anything else is done."""
    try:
        return model.model_validate_json(await request.body() or if_empty)
    except ValidationError as error:
        problem = error.errors(include_url=False, include_input=False, include_context=False)[0]
        where = ".".join(str(part) for part in problem["loc"])
        raise HTTPException(
            422, f"{where}: {problem['msg']}" if where else problem["msg"]
        ) from None


def answer(content: dict[str, Any], status: int = 200, **headers: str) -> Response:
    """What nobody may store, as JSON."""
    body = to_json(content)
    return Response(body, status, NO_STORE | headers, "application/json")
