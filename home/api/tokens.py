"""`/api/me/tokens`: the tokens by which programs act for who is signed in."""

from __future__ import annotations

from typing import Annotated

from pydantic import AwareDatetime, BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from audit.ids import id_of
from home.accounts import authentication, tokens
from home.accounts.tokens import MOST_DAYS, USUAL_DAYS, Scope
from home.services import Services
from home.web.bodies import Body, answer, body_of
from home.web.openapi import Operation
from home.web.people import person_of, services_of

HIGHEST = 2**31 - 1


class NewToken(Body):
    """A token to be made; the own password shows that it is still the person who asks."""

    name: Annotated[str, Field(max_length=50)]
    scopes: Annotated[list[str], Field(max_length=len(Scope))]
    days: Annotated[int, Field(ge=1, le=MOST_DAYS)] = USUAL_DAYS
    password: Annotated[str, Field(max_length=1024)]


class ApiTokenMade(BaseModel):
    """A new token, which is told this once."""

    token: str


class OneToken(BaseModel):
    """A token; what it is, nobody can tell any more."""

    id: int
    name: str
    scopes: list[Scope]
    created_at: AwareDatetime
    expires_at: AwareDatetime
    last_used_at: AwareDatetime | None
    is_over: bool


class ApiTokens(BaseModel):
    """The newest first."""

    tokens: list[OneToken]


def operations(services: Services) -> list[Operation]:
    """Return what people do with their own tokens; none of it is for tokens."""
    path = "/api/me/tokens"
    return [
        Operation(
            "GET", path, list_tokens, "The own tokens.", answer=ApiTokens, scope="",
        ),
        Operation(
            "POST", path, make_token, "Make one, for a program.", NewToken, ApiTokenMade, 201,
            errors=(429,), scope="",
        ),
        Operation(
            "DELETE", path + "/{id}", end_token, "End one.", status=204, errors=(404,),
            scope="",
        ),
    ]  # fmt: skip


async def list_tokens(request: Request) -> Response:
    person = await person_of(request)
    return answer({"tokens": await tokens.list_of(services_of(request).db, person.id)})


async def make_token(request: Request) -> Response:
    body = await body_of(request, NewToken)
    person, db = await person_of(request), services_of(request).db
    account = await authentication.confirm_password(db, person, body.password)
    made = await tokens.create(
        db, person.id, person.id, body.name, body.scopes, body.days, account.version
    )
    return answer({"token": made}, 201)


async def end_token(request: Request) -> Response:
    person = await person_of(request)
    number = id_of(request.path_params["id"], HIGHEST)
    if number is None or not await tokens.end(
        services_of(request).db, person.id, person.id, number
    ):
        raise HTTPException(404, "You have no such token.")
    return Response(status_code=204)
