"""Pages: HTML at a path, who may see it, and its place in the navigation."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import NamedTuple

from starlette.convertors import Convertor, register_url_convertor
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from audit.errors import DatabaseUnavailable
from home.accounts import sessions
from home.accounts.sessions import SignedIn, request_info
from home.web.people import SAFE, Who, knows_csrf_token, services_of
from home.web.redirects import to_sign_in
from home.web.rendering import render

View = Callable[[Request], Awaitable[Response]]


class IdConvertor(Convertor[int]):
    """`{id:int}` in paths: Starlette's own takes thousands of digits, which int() refuses."""

    regex = "[0-9]{1,18}"

    def convert(self, value: str) -> int:
        return int(value)

    def to_string(self, value: int) -> str:
        return str(value)


register_url_convertor("int", IdConvertor())

EXPIRED = "This form is out of date. Go back, load the page again, and send it once more."


@dataclass(frozen=True)
class Page:
    """One page.

    Args:
        path: as Starlette's Route has it, such as `/tools/{id:int}`.
        view: answers a request, mostly by `home.web.rendering.render`; or a template's name, which
            is all there is to the page. Who asks is in `request.state.person`: a SignedIn, or None
            where `who` is anybody.
        who: others are sent to sign in, or refused with 403.
        title: of the entry in the navigation; None makes no entry.
        title_for: those to whom the navigation shows it, if they are fewer than may see the page.
        methods: a POST needs the form field `csrf_token`, which templates have as
            `{{ csrf_field() }}`; for pages for anybody the same origin is enough.
    """

    path: str
    view: View | str
    who: Who = Who.ADMINISTRATORS
    title: str | None = None
    methods: Sequence[str] = ("GET",)
    title_for: Who | None = None

    def route(self) -> Route:
        """Return the route, which lets only those in who may see it."""
        return Route(self.path, self._answer, methods=list(self.methods), name=self.path)

    async def _answer(self, request: Request) -> Response:
        request.state.person = None
        if self.who is not Who.ANYBODY:
            person = await person_at(request)
            if person is None:
                return to_sign_in(request)
            if not self.who.includes(person):
                raise HTTPException(
                    403, f"This is for {self.who} only. You are signed in as {person.email}."
                )
            if request.method not in SAFE:
                form = await request.form(max_files=0, max_fields=100)
                if not knows_csrf_token(str(form.get("csrf_token", "")), request_info.get().token):
                    raise HTTPException(403, EXPIRED)
        if isinstance(self.view, str):
            return render(request, self.view)
        return await self.view(request)


class Entry(NamedTuple):
    """An entry of the navigation.

    Args:
        is_current: whether the page that is shown is this one, or one below it.
    """

    path: str
    title: str
    is_current: bool = False


async def person_at(request: Request) -> SignedIn | None:
    """Return who is signed in, for a page for anybody, too; they are shown at its top."""
    token = request_info.get().token
    person = await sessions.authenticate(services_of(request).db, token) if token else None
    request.state.person = person
    return person


async def person_if_known(request: Request) -> SignedIn | None:
    """Return who is signed in, like `person_at`; None where the database cannot say."""
    request.state.person = None
    with suppress(DatabaseUnavailable):
        return await person_at(request)
    return None


def navigation(pages: Sequence[Page], person: SignedIn | None, path: str) -> list[Entry]:
    """Return the pages with a title that a person may see, in the order of the apps; the tables of
    the back office come last.

    Who is not signed in has nowhere to go but to sign in.
    """
    if person is None:
        return []
    found = [
        Entry(page.path, page.title, path == page.path or path.startswith(f"{page.path}/"))
        for page in pages
        if page.title is not None and (page.title_for or page.who).includes(person)
    ]
    return [*found, *([Entry("/admin/", "Tables")] if person.is_admin else [])]
