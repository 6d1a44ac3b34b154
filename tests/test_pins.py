"""Internals that we rely on. When a pin is raised, this says what broke and who needs it."""

from __future__ import annotations

import hashlib
import inspect
from importlib.metadata import version
from typing import Any

import asyncpg
import pytest
from asyncpg.pool import PoolConnectionHolder
from piccolo.apps.migrations.auto.migration_manager import MigrationManager
from piccolo.apps.user.tables import BaseUser
from piccolo.engine.postgres import PostgresEngine, PostgresTransaction
from piccolo.table import Table
from piccolo_admin.endpoints import AdminRouter, superuser_validators
from piccolo_api.crud.endpoints import PiccoloCRUD
from piccolo_api.crud.validators import apply_validators
from piccolo_api.session_auth.endpoints import SessionLoginEndpoint
from piccolo_api.session_auth.middleware import SessionsAuthBackend
from piccolo_api.session_auth.tables import SessionsBase
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import Server
from uvicorn.supervisors import Multiprocess

from home.web.error_responses import CUT_OFF
from tests.conftest import ROOT


@pytest.mark.parametrize(
    ("package", "pinned"),
    [("piccolo", "1.38.0"), ("piccolo-admin", "1.14.0"), ("piccolo-api", "1.11.0")],
)
def test_the_pinned_versions_are_installed(package: str, pinned: str) -> None:
    assert version(package) == pinned


@pytest.mark.parametrize(
    ("function", "text", "needed_by"),
    [
        (Table.__init_subclass__, "TABLE_REGISTRY.append(cls)", "bind_tables"),
        (PostgresEngine.__init__, "super().__init__", "Engine: check_version and prep_database"),
        (PostgresTransaction.__init__, "self._parent = current_transaction", "Transaction"),
        (PostgresTransaction.__init__, "self._rolled_back = False", "Transaction"),
        (PoolConnectionHolder.release, "await self._pool._reset(self._con)", "create_pool(reset)"),
        (asyncpg.Connection.close, "self._cleanup()", "close_if_state_was_left"),
        (MigrationManager.run, "raw_list = self.raw_backwards", "refuse_while_needed"),
        (SessionLoginEndpoint.post, "self._auth_table.login(", "User.login"),
        (SessionLoginEndpoint.post, "cast(str, session.token)", "Session.create_session"),
        (SessionsAuthBackend.authenticate, "self.session_table.get_user_id(", "get_user_id"),
        (SessionsAuthBackend.authenticate, "piccolo_user.active", "User.active"),
        (superuser_validators, "user.superuser", "User.superuser"),
        (AdminRouter.__init__, "exception_handlers={500: log_error}", "answer_errors"),
        (AdminRouter.__init__, 'path="/api", app=auth_middleware(private_app)', "answer_errors"),
        (AdminRouter.__init__, 'self.mount(path="/public", app=public_app)', "answer_errors"),
        (AdminRouter.__init__, 'path="/mfa-setup/"', "leave_out"),
        (AdminRouter.post_single_form, '{"custom_form_error": str(exception)}', "own_functions"),
        (PiccoloCRUD.post_single, "except ValueError:", "surfacing, for hooks"),
        (apply_validators, "except HTTPException as exception:", "Surfaced, for validators"),
        (PiccoloCRUD._parse_params, 'key.rstrip("[]")', "check_query"),
        (PiccoloCRUD._split_params, 'value.split(",")', "check_query"),
        (PiccoloCRUD._apply_filters, "self.pydantic_model_filters(**fields)", "check_query"),
        (AdminRouter.get_root, "HTMLResponse(self.template)", "BackOffice: our script on its page"),
        (HttpToolsProtocol.data_received, "self.parser.feed_data(data)", "BoundedProtocol"),
        (HttpToolsProtocol.on_message_begin, "self.scope = {", "BoundedProtocol.owes"),
        (HttpToolsProtocol.on_headers_complete, "scope=self.scope,", "BoundedProtocol.owes"),
        (HttpToolsProtocol.on_headers_complete, "self.pipeline.appendleft(", "MAX_PIPELINED"),
        (HttpToolsProtocol.on_message_complete, "self.cycle.more_body = False", "owes"),
        (HttpToolsProtocol.on_response_complete, "self.timeout_keep_alive_task =", "its override"),
        (Server.main_loop, "should_exit = await self.on_tick(counter)", "WorkerServer.on_tick"),
        (Server.startup, "self.started = True", "WorkerServer.startup"),
        (Multiprocess.__init__, "self.signal_queue.append(sig)", "ProcessManager.run"),
        (Multiprocess.handle_hup, "self.restart_all()", "ProcessManager.restart_all"),
        (Server.shutdown, f't.cancel(msg="{CUT_OFF}")', "ErrorMiddleware"),
        (RequestResponseCycle.send, "if self.disconnected:", "BoundedProtocol._refuse"),
        (RequestResponseCycle.receive, "if self.disconnected or", "BoundedProtocol._refuse"),
    ],
)
def test_an_internal_is_as_we_know_it(function: Any, text: str, needed_by: str) -> None:
    assert text in inspect.getsource(function), f"{needed_by} relies on it"


@pytest.mark.parametrize(
    ("base", "name", "parameters"),
    [
        (BaseUser, "login", ["username", "password"]),
        (BaseUser, "create_user", ["username", "password", "extra_params"]),
        (BaseUser, "update_password", ["user", "password"]),
        (SessionsBase, "create_session", ["user_id", "expiry_date", "max_expiry_date"]),
        (SessionsBase, "get_user_id", ["token", "increase_expiry"]),
        (SessionsBase, "remove_session", ["token"]),
    ],
)
def test_an_overridden_method_has_its_parameters(
    base: type, name: str, parameters: list[str]
) -> None:
    assert list(inspect.signature(getattr(base, name)).parameters) == parameters


def test_htmx_is_the_release_that_we_know() -> None:
    """The file of `npm pack htmx.org@2.0.11`, dist/htmx.min.js, with its licence beside it."""
    static = ROOT / "home" / "pages" / "static"
    digest = hashlib.sha256((static / "htmx.min.js").read_bytes()).hexdigest()
    assert digest == "d6fdc75f204e6bdefa99b69bf1e6d4ac69b8a364f77929f45c13476b4000f717"
    assert b'version:"2.0.11"' in (static / "htmx.min.js").read_bytes()
    assert (static / "htmx.LICENSE.txt").read_text().startswith("Zero-Clause BSD")
