"""Functions of the apps that piccolo-admin calls: hooks, validators and forms.

It takes some exceptions for answers: a ValueError of a form is shown, one of a hook is "Unable to
save", whatever a validator raises is "Validation error". So mistakes in ours are carried around it.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from functools import wraps
from inspect import isawaitable
from typing import TYPE_CHECKING, Any

import asyncpg
from piccolo_api.crud.hooks import Hook
from starlette.exceptions import HTTPException

from audit.errors import DatabaseUnavailable, GroundworkError
from home.backoffice.answers import Surfaced, sentence_of
from home.web.people import Who

if TYPE_CHECKING:
    from piccolo_admin.endpoints import FormConfig, TableConfig

Function = Callable[..., Coroutine[Any, Any, Any]]


def surfacing(function: Callable[..., Any]) -> Function:
    """Return a hook, validator or form whose exceptions are answered by ErrorMiddleware's rules."""

    @wraps(function)
    async def called(*args: Any, **kwargs: Any) -> Any:
        try:
            result = function(*args, **kwargs)
            return await result if isawaitable(result) else result
        except HTTPException:
            raise
        except Exception as error:  # from_error in answers.py logs it
            raise Surfaced from error

    return called


def with_surfacing(tables: list[TableConfig]) -> list[TableConfig]:
    """Return the same tables; nothing that their hooks and validators raise is hidden."""
    for table in tables:
        table.hooks = [
            Hook(hook.hook_type, surfacing(hook.callable)) for hook in table.hooks or ()
        ] or None
        for name, value in vars(table.validators).items() if table.validators else ():
            if isinstance(value, list):
                setattr(table.validators, name, [surfacing(each) for each in value])
    return tables


def for_administrators(form: FormConfig, sentences: Mapping[str, str]) -> FormConfig:
    """Return the same form, which checks who asks, and says what was refused.

    piccolo-admin's forms have no check of their own, and show the message of a ValueError.

    Args:
        sentences: the messages for violated constraints, by name.
    """
    endpoint = surfacing(form.endpoint)

    @wraps(form.endpoint)
    async def checked(request: Any, data: Any) -> Any:
        if not Who.ADMINISTRATORS.includes(request.user.user):
            raise ValueError("Forms are for administrators only.")
        try:
            return await endpoint(request, data)
        except Surfaced as surfaced:
            if (sentence := _sentence(surfaced.__cause__, sentences)) is None:
                raise
            raise ValueError(sentence) from surfaced

    form.endpoint = checked
    return form


def _sentence(error: BaseException | None, sentences: Mapping[str, str]) -> str | None:
    """Return what the form's page shows; None is for what is no refusal."""
    match error:
        case DatabaseUnavailable():
            return None
        case GroundworkError():
            return str(error)
        case asyncpg.IntegrityConstraintViolationError():
            return sentence_of(error, sentences)
    return None
