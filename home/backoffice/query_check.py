"""Queries and rows that come in for a table, checked where piccolo-api asks for it: by validators,
which run once it is known who asks."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from piccolo.columns import JSON, JSONB, Array
from piccolo.table import Table
from piccolo_api.crud.endpoints import PiccoloCRUD
from piccolo_api.crud.validators import Validators
from pydantic import BaseModel, ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request

if TYPE_CHECKING:
    from piccolo_admin.endpoints import TableConfig

LONGEST = 8 * 1024  # bytes of a query
LISTS = ("__order", "__visible_fields")  # may be given more than once
READS = ("get_all", "get_count", "get_ids", "get_single")


def with_checks(tables: list[TableConfig]) -> list[TableConfig]:
    """Return the same tables, which refuse what piccolo-api would fail on."""
    for table in tables:
        table.validators = validators = table.validators or Validators()
        for reads in READS:
            setattr(validators, reads, [*getattr(validators, reads), check_query])
        for writes in ("post_single", "put_single", "patch_single"):
            setattr(validators, writes, [*getattr(validators, writes), check_row])
    return tables


def check_query(piccolo_crud: PiccoloCRUD, request: Request) -> None:
    """Refuse columns that are not there or not shown, and values that are not theirs.

    Raises:
        HTTPException: 422, with what is wrong.
    """
    if len(request.url.query) > LONGEST:
        raise _unusable("The query is too long.")
    columns = {column._meta.name: column for column in piccolo_crud.table._meta.columns}
    given: dict[str, list[str]] = {}
    for key, value in request.query_params.multi_items():
        name = key.rstrip("[]")  # as some clients write lists
        if name != key and not isinstance(columns.get(name), Array):
            raise _unusable(f"{name} is not a list.")
        given.setdefault(name, []).append(value)
    for name, values in given.items():
        if len(values) > 1 and name not in LISTS and not isinstance(columns.get(name), Array):
            raise _unusable(f"{name} is given more than once.")
    for name in LISTS:
        values = given.get(name, [])
        names = values[0].split(",") if len(values) == 1 else values
        for column in (each.removeprefix("-") for each in names):
            is_shown = column in piccolo_crud.visible_fields_options
            if not is_shown or (name == "__order" and _has_no_order(columns[column])):
                raise _unusable(f"{name} names no column that can be used for it.")
    _check_filters(piccolo_crud.table, given)


def _has_no_order(column: Any) -> bool:
    """Return whether PostgreSQL compares no such values."""
    return isinstance(column, JSON) and not isinstance(column, JSONB)


def _check_filters(table: type[Table], given: dict[str, list[str]]) -> None:
    fields: dict[str, Any] = {}
    for column in table._meta.columns:
        name = column._meta.name
        if name in given:
            if _has_no_order(column):
                raise _unusable(f"{name} cannot be searched.")
            fields[name] = given[name] if isinstance(column, Array) else given[name][0]
    try:
        _filters(table)(**fields)
    except ValidationError as error:
        problem = error.errors(include_url=False, include_input=False)[0]
        raise _unusable(f"{problem['loc'][0]}: {problem['msg']}") from None


@cache
def _filters(table: type[Table]) -> type[BaseModel]:
    """Return the model that piccolo-api makes for each request, made once."""
    return PiccoloCRUD(table).pydantic_model_filters


async def check_row(piccolo_crud: PiccoloCRUD, request: Request) -> None:
    """Refuse fields that are no columns, and changes of nothing.

    Raises:
        HTTPException: 422, with what is wrong.
    """
    names = set(await request.json())  # an object: InputCheck has seen to it
    table = piccolo_crud.table
    columns = {column._meta.name for column in table._meta.columns}
    if request.method == "PUT":  # its place is in the path
        columns.discard(table._meta.primary_key._meta.name)
    if unknown := names - columns:
        raise _unusable(f"Unknown field: {min(unknown)[:100]}.")
    if not names and request.method != "POST":
        raise _unusable("Name at least one field to change.")


def _unusable(sentence: str) -> HTTPException:
    return HTTPException(422, sentence)
