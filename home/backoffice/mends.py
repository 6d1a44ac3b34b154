"""What is mended of piccolo-admin's own pages, by a script and a stylesheet of ours in them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from audit.admin import Refusal

if TYPE_CHECKING:
    from piccolo_admin.endpoints import TableConfig

# What is done to rows, and the validators that see to it.
ACTIONS = {"add": "post_single", "change": "patch_single", "delete": "delete_single"}
HEAD = (
    '<link rel="stylesheet" href="/static/admin.css">'
    '<script src="/static/admin.js" defer data-refused="{}"></script>'
)


def head_for(tables: Iterable[TableConfig]) -> str:
    """Return what belongs into the head of piccolo-admin's page."""
    return HEAD.format(" ".join(refused(tables)))


def refused(tables: Iterable[TableConfig]) -> list[str]:
    """Return what nobody may do to a table, such as `audit_logs:add`, whose button is hidden."""
    return [
        f"{table.table_class._meta.tablename}:{action}"
        for table in tables
        for action, name in ACTIONS.items()
        if any(isinstance(each, Refusal) for each in getattr(table.validators, name, ()))
    ]
