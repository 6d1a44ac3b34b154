"""piccolo-admin, with the tables and forms of all apps."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from starlette.responses import RedirectResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from audit.apps import AppRegistry, refuse_twice
from audit.errors import DatabaseUnavailable
from home.accounts.sessions import authenticate, request_info
from home.services import Services
from home.web.pages import Page
from home.web.redirects import ACCOUNT, SIGN_IN

if TYPE_CHECKING:
    from piccolo_admin.endpoints import TableConfig


SIGN_IN_PAGE = "/admin/public/login"  # piccolo-api's, and all below it


class BackOffice:
    """The back office, built for the first who asks for it: the server is up sooner.

    Who is not signed in meets our page, which says what is wrong; piccolo-admin's says «Problem
    logging in», whatever it is.
    """

    def __init__(self, services: Services, registry: AppRegistry, pages: Sequence[Page]) -> None:
        self.services = services
        self.registry = registry
        self.pages = pages
        self._admin: ASGIApp | None = None
        self._building = asyncio.Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/admin/" and (elsewhere := await self._elsewhere()):
            await RedirectResponse(elsewhere, 303)(scope, receive, send)
            return
        if scope["path"].startswith(SIGN_IN_PAGE) and scope["method"] in ("GET", "HEAD"):
            await RedirectResponse("/sign-in?next=/admin/", 303)(scope, receive, send)
            return
        if self._admin is None:
            async with self._building:
                if self._admin is None:  # importing it takes a while, in which others are served
                    self._admin = await asyncio.to_thread(self.build)
        await self._admin(scope, receive, send)

    async def _elsewhere(self) -> str | None:
        """Return where somebody goes who cannot use the back office."""
        token = request_info.get().token
        try:
            person = await authenticate(self.services.db, token) if token else None
        except DatabaseUnavailable:
            return None
        if person is None:
            return f"{SIGN_IN}?next=/admin/"
        return None if person.is_admin else ACCOUNT

    def build(self) -> ASGIApp:
        """Return piccolo-admin, with what stands around it."""
        from piccolo_admin.endpoints import create_admin

        from home.accounts.second_factor import SecondFactor
        from home.backoffice.answers import answer_errors, leave_out, let_violations_through
        from home.backoffice.cookies import AdminCookies
        from home.backoffice.csv_export import CsvExport
        from home.backoffice.input_check import InputCheck
        from home.backoffice.lists import ListsInTurn, bounded
        from home.backoffice.mends import head_for
        from home.backoffice.no_limit import NoLimit
        from home.backoffice.own_functions import for_administrators, with_surfacing
        from home.backoffice.query_check import with_checks
        from home.tables import Session, User
        from home.web.read_your_writes import with_replica_lists

        settings = self.services.settings
        production = settings.environment == "production"
        links = {page.title: page.path for page in self.pages if page.title is not None}
        tables = [
            (app, _configured(each)) for app, each in self.registry.all("tables", self.services)
        ]
        refuse_twice([(app, f"table {t.table_class._meta.tablename}") for app, t in tables])
        forms = self.registry.all("forms", self.services)
        refuse_twice([(app, f"form {form.name}") for app, form in forms])
        sentences = self.registry.sentences()
        head = head_for([table for _, table in tables])  # before others stand around validators
        admin = create_admin(
            tables=with_surfacing(with_checks(bounded(with_replica_lists([t for _, t in tables])))),
            forms=[for_administrators(form, sentences) for _, form in forms],
            auth_table=User,
            session_table=Session,
            auto_include_related=False,
            rate_limit_provider=NoLimit(),
            mfa_providers=[SecondFactor.of(self.services).provider()],
            production=production,
            site_name=settings.app_name,
            sidebar_links=links | {"API": "/api/docs"},
        )
        admin.template = admin.template.replace("</head>", f"{head}</head>")
        answer_errors(admin, sentences)
        let_violations_through()
        leave_out(admin, "/mfa-setup")  # home.pages.sign_in has one
        leave_out(admin, "/docs")  # home.web.openapi has one
        lists = ListsInTurn(InputCheck(admin))
        return AdminCookies(CsvExport(lists, self.services.db))


def _configured(table: Any) -> TableConfig:
    """Return a table's configuration; a bare table has none."""
    from piccolo_admin.endpoints import TableConfig

    return table if isinstance(table, TableConfig) else TableConfig(table)
