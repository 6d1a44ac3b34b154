"""How the trail appears in the back office: to read, never to edit."""

from __future__ import annotations

from typing import Any

from piccolo_admin.endpoints import TableConfig
from piccolo_api.crud.endpoints import OrderBy
from piccolo_api.crud.validators import Validators
from starlette.exceptions import HTTPException
from starlette.requests import Request

from audit.apps import Services
from audit.tables import AuditLog, AuditSeal


class Refusal:
    """A validator that answers 403 with a sentence, to everybody."""

    def __init__(self, sentence: str) -> None:
        self.sentence = sentence

    def __call__(self, piccolo_crud: Any, request: Request) -> None:
        raise HTTPException(status_code=403, detail=self.sentence)


def refuse(sentence: str) -> Any:
    """Return a validator that answers 403 with a sentence."""
    return Refusal(sentence)


def read_only(sentence: str) -> Validators:
    """Return validators that let rows be read and nothing else."""
    deny = [refuse(sentence)]
    return Validators(
        post_single=deny, put_single=deny, patch_single=deny, delete_single=deny, delete_all=deny
    )


def tables(services: Services) -> list[TableConfig]:
    """Return the table configurations of the group Audit."""
    return [
        TableConfig(
            AuditLog,
            menu_group="Audit",
            visible_columns=[
                AuditLog.id,
                AuditLog.created_at,
                AuditLog.actor,
                AuditLog.action,
                AuditLog.resource,
                AuditLog.resource_id,
                AuditLog.ip_address,
            ],
            visible_filters=[
                AuditLog.created_at,
                AuditLog.user_id,
                AuditLog.actor,
                AuditLog.action,
                AuditLog.resource,
                AuditLog.resource_id,
                AuditLog.is_admin_action,
                AuditLog.request_id,
            ],
            # As the index has it, so that a filter by time needs no sorting either.
            order_by=[
                OrderBy(AuditLog.created_at, ascending=False),
                OrderBy(AuditLog.id, ascending=False),
            ],
            validators=read_only("The audit trail cannot be changed."),
        ),
        TableConfig(
            AuditSeal,
            menu_group="Audit",
            order_by=[OrderBy(AuditSeal.id, ascending=False)],
            validators=read_only("Seals cannot be changed."),
        ),
    ]
