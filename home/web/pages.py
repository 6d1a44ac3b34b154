"""Pages: HTML at a path, who may see it, and its place in the navigation."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from home.accounts import sessions
from home.accounts.sessions import SignedIn, request_info
from home.web.people import SAFE, Who, check_csrf, services_of
from home.web.rendering import render

View = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True)
class Page:
    """One page.

    Args:
        path: as Starlette's Route has it, such as `/tools/{id:int}`.
        view: answers a request, mostly by `home.web.rendering.render`. Who asks is in
            `request.state.person`: a SignedIn, or None where `who` is anybody.
        who: others are sent to sign in, or refused with 403.
        title: of the entry in the navigation; None makes no entry.
        methods: a POST needs the form field `csrf_token`, which templates have as
            `{{ csrf_field() }}`; for pages for anybody the same origin is enough.
    """

    path: str
    view: View
    who: Who = Who.ADMINISTRATORS
    title: str | None = None
    methods: Sequence[str] = ("GET",)

    def route(self) -> Route:
        """Return the route, which lets only those in who may see it."""
        return Route(self.path, self._answer, methods=list(self.methods), name=self.path)

    async def _answer(self, request: Request) -> Response:
        if self.who is Who.ANYBODY:
            request.state.person = None
            return await self.view(request)
        token = request_info.get().token
        person = await sessions.authenticate(services_of(request).db, token) if token else None
        request.state.person = person
        if person is None:
            return RedirectResponse("/sign-in", 303)
        if not self.who.includes(person):
            return render(request, "refused.html", 403, who=self.who)
        if request.method not in SAFE:
            form = await request.form(max_files=0, max_fields=100)
            check_csrf(str(form.get("csrf_token", "")), token)
        return await self.view(request)


def navigation(pages: Sequence[Page], person: SignedIn | None) -> list[Page]:
    """Return the pages with a title that a person may see, in the order of the apps.

    Who is not signed in has nowhere to go but to sign in.
    """
    if person is None:
        return []
    return [page for page in pages if page.title is not None and page.who.includes(person)]
