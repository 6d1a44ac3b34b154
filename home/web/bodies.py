"""JSON that comes in, checked, and JSON that goes out."""

from __future__ import annotations

from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import to_json
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

Model = TypeVar("Model", bound=BaseModel)

NO_STORE = {"cache-control": "no-store"}


class Body(BaseModel):
    """A body with these fields, and no others."""

    model_config = ConfigDict(extra="forbid", strict=True)


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
    """JSON that nobody may store."""
    body = to_json(content)
    return Response(body, status, NO_STORE | headers, "application/json")
