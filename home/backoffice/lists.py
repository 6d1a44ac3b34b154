"""An end to piccolo-admin's lists, which take a page of any size up to 1,000 rows."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from starlette.exceptions import HTTPException
from starlette.requests import Request

if TYPE_CHECKING:
    from piccolo_admin.endpoints import TableConfig

MAX_ROWS = 100  # of a page: the most that its own page asks for, but for its CSV
# It puts this parameter into a header.
RANGE_NAME = re.compile(r"[A-Za-z0-9_.-]{1,100}")


def bounded(tables: list[TableConfig]) -> list[TableConfig]:
    """Return the same tables, whose lists refuse what would be too much."""
    from piccolo_api.crud.validators import Validators

    for table in tables:
        table.validators = table.validators or Validators()
        table.validators.get_all = [*table.validators.get_all, _page_is_bounded]
        table.validators.get_ids = [*table.validators.get_ids, _choice_is_bounded]
    return tables


def _page_is_bounded(piccolo_crud: Any, request: Request) -> None:
    sizes = _values(request, "__page_size")
    if sizes and not _is_count(sizes):
        raise HTTPException(400, f"__page_size is at most {MAX_ROWS}.")
    if not all(RANGE_NAME.fullmatch(name) for name in _values(request, "__range_header_name")):
        raise HTTPException(400, "__range_header_name is letters, digits and _ . -")


def _choice_is_bounded(piccolo_crud: Any, request: Request) -> None:
    if not _is_count(_values(request, "limit")):
        raise HTTPException(400, f"limit is needed, and at most {MAX_ROWS}.")


def _values(request: Request, name: str) -> list[str]:
    """Return all values of a parameter, which piccolo-api also takes as `name[]`."""
    return [value for key, value in request.query_params.multi_items() if key.rstrip("[]") == name]


def _is_count(values: list[str]) -> bool:
    return len(values) == 1 and values[0].isdecimal() and int(values[0][:9]) <= MAX_ROWS
