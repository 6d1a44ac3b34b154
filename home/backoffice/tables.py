"""How accounts appear in the back office."""

from __future__ import annotations

from typing import Any

from piccolo_admin.endpoints import TableConfig
from piccolo_api.crud.endpoints import OrderBy
from piccolo_api.crud.hooks import Hook, HookType
from piccolo_api.crud.validators import Validators
from starlette.exceptions import HTTPException

from audit.admin import read_only, refuse
from home.accounts.authenticator import AuthenticatorSecret
from home.services import Services
from home.tables import Session, User, UserPreference

# What the edit form of a person may change; the rest follows from what people do.
EDITABLE = {
    "email",
    "display_name",
    "organization",
    "clerk_id",
    "is_admin",
    "is_superuser",
    "is_auditor",
}
BY_FORM = {"is_approved", "is_disabled"}


async def _only_editable(row_id: Any, values: dict[str, Any]) -> dict[str, Any]:
    """The form sends every field; what it may not change is left as it is."""
    if values.get("password_hash"):
        raise HTTPException(
            status_code=422,
            detail="Passwords are changed by their owners.",
        )
    decided = await User.select(*BY_FORM).where(User.id == row_id).first() or {}
    if any(values.get(name, decided[name]) != decided[name] for name in decided):
        raise HTTPException(
            status_code=422, detail="Use the forms to approve, reject, disable or enable somebody."
        )
    changes = {name: value for name, value in values.items() if name in EDITABLE}
    if not changes:
        raise HTTPException(status_code=422, detail="Nothing of this can be changed here.")
    return changes


def tables(services: Services) -> list[TableConfig]:
    """Table configurations of the group Accounts."""
    return [_people(), _preferences(), _second_factors(), _sessions()]


def _people() -> TableConfig:
    # piccolo-admin's PUT and POST skip hooks and would store a password as it was typed.
    by_form = [refuse("Use the form to create a person; edit one field by field.")]
    return TableConfig(
        User,
        menu_group="Accounts",
        visible_columns=[
            User.id,
            User.email,
            User.display_name,
            User.organization,
            User.is_admin,
            User.is_auditor,
            User.is_approved,
            User.is_disabled,
            User.last_login_at,
        ],
        exclude_visible_filters=[User.password_hash],
        order_by=[OrderBy(User.email)],
        validators=Validators(post_single=by_form, put_single=by_form),
        hooks=[Hook(HookType.pre_patch, _only_editable)],
    )


def _preferences() -> TableConfig:
    return TableConfig(
        UserPreference,
        menu_group="Accounts",
        validators=read_only("Preferences are changed by the person they belong to."),
    )


def _second_factors() -> TableConfig:
    shown = [AuthenticatorSecret.user_id, AuthenticatorSecret.created_at]
    return TableConfig(
        AuthenticatorSecret,
        menu_group="Accounts",
        visible_columns=[AuthenticatorSecret.id, *shown],
        visible_filters=shown,
        validators=read_only("Second factors are set up by their owners, or removed by form."),
    )


def _sessions() -> TableConfig:
    refused = [refuse("Sessions begin at sign-in; they can be ended, not edited.")]
    return TableConfig(
        Session,
        menu_group="Accounts",
        visible_columns=[
            Session.sid,
            Session.user_id,
            Session.created_at,
            Session.last_seen_at,
            Session.expire,
        ],
        order_by=[OrderBy(Session.created_at, ascending=False)],
        validators=Validators(post_single=refused, put_single=refused, patch_single=refused),
    )
