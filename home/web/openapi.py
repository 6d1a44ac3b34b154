"""The API described by itself: routes, an OpenAPI 3.1 document, and a page to read it.

An operation is declared once; its route and its description cannot drift apart.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from home.accounts.sessions import request_info
from home.web.curl import base_of, curl_line, sign_in_lines
from home.web.pages import person_if_known
from home.web.people import CSRF_HEADER
from home.web.rendering import render

REF = "#/components/schemas/{model}"
Refs = Mapping[type[BaseModel], dict[str, Any]]  # how each model is referred to
ABOUT = "People and their own things. Bodies and answers are JSON."
ERRORS = {
    400: "The request is no HTTP request that can be understood.",
    401: "Nobody is signed in.",
    403: "This person, network or site may not do this, or the CSRF token is missing.",
    404: "There is no such thing.",
    409: "It conflicts with the current state.",
    412: "It was changed meanwhile.",
    413: "More than can be stored.",
    422: "The body, or a value, cannot be used.",
    429: "Too many attempts; Retry-After says when to come back.",
    503: "The database is unavailable; Retry-After says when to come back.",
}


class Problem(BaseModel):
    """An error, for a program and for a person."""

    code: str
    message: str


class Error(BaseModel):
    """Every error looks like this."""

    error: Problem


@dataclass(frozen=True)
class Operation:
    """A method of a path, what it takes and what it answers.

    Args:
        answer: of a success; None is an answer without content.
        errors: besides those that follow from `signed_in`, `body` and the method.
        etag: whether the answer carries one, and an unsafe method heeds If-Match.
        query: what each parameter behind the path's `?` means; all may be left out.
        scope: that a program's token needs: read for GET, else write, unless said otherwise;
            "" is not for tokens.
    """

    method: str
    path: str
    handler: Callable[[Request], Awaitable[Response]]
    summary: str
    body: type[BaseModel] | None = None
    answer: type[BaseModel] | None = None
    status: int = 200
    errors: Sequence[int] = ()
    signed_in: bool = True
    etag: bool = False
    is_body_optional: bool = False
    query: Mapping[str, str] = field(default_factory=dict)
    scope: str | None = None

    @property
    def needed_scope(self) -> str | None:
        """The scope that a token needs; None where tokens do not count."""
        if not self.signed_in:
            return None
        usual = "write" if self.is_unsafe else "read"
        return (usual if self.scope is None else self.scope) or None

    @property
    def is_unsafe(self) -> bool:
        return self.method != "GET"

    def statuses(self) -> list[int]:
        """The errors it may answer."""
        found = {*self.errors, 503, 400}
        if self.signed_in:
            found |= {401}
        if self.is_unsafe:
            found |= {403, 413}
        if self.body is not None:
            found |= {422}
        if self.etag and self.is_unsafe:
            found |= {412}
        return sorted(found)

    def described(self, refs: Refs, has_tokens: bool) -> dict[str, Any]:
        """The Operation Object of OpenAPI."""
        described: dict[str, Any] = {
            "summary": self.summary,
            "operationId": self.handler.__name__,
            "parameters": self._parameters(has_tokens),
            "responses": {str(self.status): self._success(refs)}
            | {
                str(status): {"description": ERRORS[status], **_json(refs[Error])}
                for status in self.statuses()
            },
            "security": self._security(has_tokens),
        }
        if self.body is not None:
            described["requestBody"] = {
                "required": not self.is_body_optional,
                **_json(refs[self.body]),
            }
        return described

    def _success(self, refs: Refs) -> dict[str, Any]:
        found: dict[str, Any] = {"description": self.summary}
        if self.etag:
            found["headers"] = {"etag": {"schema": {"type": "string"}}}
        return found | (_json(refs[self.answer]) if self.answer else {})

    def _security(self, has_tokens: bool) -> list[dict[str, list[str]]]:
        if not self.signed_in:
            return []
        scope = self.needed_scope
        return [{"session": []}, *([{"token": [scope]}] if has_tokens and scope else [])]

    def _parameters(self, has_tokens: bool) -> list[dict[str, Any]]:
        text = {"type": "string"}
        names = re.findall(r"{(\w+)", self.path)
        found: list[dict[str, Any]] = [
            {"name": name, "in": "path", "required": True, "schema": text} for name in names
        ]
        found += [
            {"name": name, "in": "query", "required": False, "schema": text, "description": about}
            for name, about in self.query.items()
        ]
        if self.signed_in and self.is_unsafe:
            is_needed = not (has_tokens and self.needed_scope)
            found.append(
                {"name": CSRF_HEADER, "in": "header", "required": is_needed, "schema": text}
            )
        if self.etag and self.is_unsafe:
            found.append({"name": "if-match", "in": "header", "required": False, "schema": text})
        return found


def _json(schema: dict[str, Any]) -> dict[str, Any]:
    return {"content": {"application/json": {"schema": schema}}}


def document(operations: Sequence[Operation], has_tokens: bool = False) -> dict[str, Any]:
    """The OpenAPI 3.1 document.

    Args:
        has_tokens: whether programs may come with tokens.
    """
    models = {Error, *(o.body for o in operations), *(o.answer for o in operations)} - {None}
    ordered = sorted(models, key=lambda model: model.__name__)  # type: ignore[union-attr]
    found, schemas = models_json_schema(
        [(model, "validation") for model in ordered],  # type: ignore[misc]
        ref_template=REF,
    )
    refs: Refs = {model: schema for (model, _), schema in found.items()}  # type: ignore[misc]
    paths: dict[str, Any] = {}
    for operation in operations:
        path = re.sub(r":\w+}", "}", operation.path)
        paths.setdefault(path, {})[operation.method.lower()] = operation.described(refs, has_tokens)
    schemes: dict[str, Any] = {"session": {"type": "apiKey", "in": "cookie", "name": "id"}}
    if has_tokens:
        schemes["token"] = {"type": "http", "scheme": "bearer"}
    return {
        "openapi": "3.1.0",
        "info": {"title": "Groundwork", "version": "1", "description": ABOUT},
        "paths": paths,
        "components": {"schemas": schemas.get("$defs", {}), "securitySchemes": schemes},
    }


def api_routes(operations: Sequence[Operation]) -> list[Route]:
    """A route for each path: with one for each method, the Allow header of a 405 would be short."""
    handlers: dict[str, dict[str, Operation]] = {}
    for operation in operations:
        handlers.setdefault(operation.path, {})[operation.method] = operation
    return [
        Route(path, _by_method(of_path), methods=list(of_path))
        for path, of_path in handlers.items()
    ]


def _by_method(handlers: dict[str, Operation]) -> Callable[[Request], Awaitable[Response]]:
    async def handle(request: Request) -> Response:
        method = "GET" if request.method == "HEAD" else request.method
        operation = handlers[method]
        request.state.token_scope = operation.needed_scope
        return await operation.handler(request)

    return handle


def openapi_routes(operations: Sequence[Operation], has_tokens: bool = False) -> list[Route]:
    """`/api/openapi.json` and `/api/docs`; made for the first who asks."""

    @cache
    def found() -> dict[str, Any]:
        return document(operations, has_tokens)

    async def as_json(request: Request) -> Response:
        return JSONResponse(found())

    async def as_page(request: Request) -> Response:
        await person_if_known(request)
        scheme = "https" if request_info.get().is_secure else "http"
        base = base_of(scheme, request.headers.get("host", ""))
        line, first = partial(curl_line, found(), base), sign_in_lines(base)
        return render(request, "api.html", document=found(), curl_line=line, first=first)

    return [Route("/api/openapi.json", as_json), Route("/api/docs", as_page)]
