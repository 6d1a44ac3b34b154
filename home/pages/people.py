"""`/people`: who waits, who is in, who is kept out; and decisions about many at once.

Everything works without a script. With one the list follows what is typed, and ticks are counted.
"""

from __future__ import annotations

from typing import Any, cast
from urllib.parse import urlencode

from starlette.datastructures import FormData
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from audit.errors import Refused
from home.accounts import people
from home.accounts.decisions import DECISIONS, NAMED, Decision, Outcome, decide, preview
from home.accounts.people import WAITING, Filter, Group
from home.accounts.sessions import SignedIn
from home.database.engine import Engine
from home.web.pages import Page
from home.web.people import Who
from home.web.redirects import local_path, redirect
from home.web.rendering import render
from home.web.words import plural

PEOPLE = "/people"
# What is offered for the people of a group; groups of other apps are like everybody.
OFFERED = {
    "waiting": ("approve", "reject"),
    "active": ("disable", "end_sessions"),
    "disabled": ("enable",),
    "administrators": ("disable", "end_sessions"),
}
OFFERED_ELSEWHERE = ("disable", "enable", "end_sessions")


class PeoplePages:
    """The list, and what is decided about several people."""

    def __init__(self, db: Engine) -> None:
        self.db = db

    def pages(self) -> list[Page]:
        """Return the pages; auditors see the list."""
        return [
            Page(PEOPLE, self.show, Who.READERS, "People"),
            Page(f"{PEOPLE}/decide", self.decide, methods=["POST"]),
        ]

    async def show(self, request: Request) -> Response:
        """Show a page of a group; `q` is searched for, `before` is where the page begins."""
        chosen = _filter(request, request.query_params)
        [before] = people.ids_of([request.query_params.get("before", "")]) or [people.LAST_ID]
        groups = list(groups_of(request).values())
        counted = [chosen.group] if chosen.search else groups  # of words it takes longer
        counts = await people.counts(self.db, counted, chosen.search)
        rows, following = await people.page_of(self.db, chosen, before)
        most = people.most_counted(chosen.search)
        numbers = {g.name: number_of(n, most) for g, n in zip(counted, counts, strict=True)}
        offered = OFFERED.get(chosen.group.name, OFFERED_ELSEWHERE)
        return render(
            request,
            "people.html",
            groups=groups,
            numbers=numbers,
            total=counts[counted.index(chosen.group)],
            chosen=chosen,
            rows=[{**row, "state": people.state_of(row)} for row in rows],
            older=address_of(chosen, following) if following else None,
            newest=address_of(chosen) if before < people.LAST_ID else None,
            here=address_of(chosen, before if before < people.LAST_ID else None),
            address_of=lambda group: address_of(Filter(group, chosen.search)),
            until=await people.newest_id(self.db),
            decisions=[DECISIONS[name] for name in offered],
        )

    async def decide(self, request: Request) -> Response:
        """Do what was decided, or ask first; then tell whom it was not done to, and why."""
        person: SignedIn = request.state.person
        form = await request.form()
        decision, about = _decision(form), _about(request, form)
        expected = _filter(request, form)
        asked = (self.db, person.id, decision, about, expected)
        try:
            if "confirmed" not in form:
                would = await preview(*asked)
                is_plain = not isinstance(about, Filter) or would.done <= people.PAGE
                if not (decision.at_once and is_plain):
                    return self._ask(request, decision, about, expected, would)
            outcome = await decide(*asked)
        except Refused as error:
            return redirect(back_of(form), str(error), failed=True)
        return _told(request, decision, outcome, back_of(form))

    def _ask(
        self,
        request: Request,
        decision: Decision,
        about: list[int] | Filter,
        expected: Filter,
        would: Outcome,
    ) -> Response:
        return render(
            request,
            "people_confirm.html",
            decision=decision,
            would=would,
            who=whom(would),
            ids=[] if isinstance(about, Filter) else [each["id"] for each in would.people],
            everybody=isinstance(about, Filter),
            chosen=expected,
            unnamed=max(0, would.done - len(would.people)),
            back=back_of(cast(FormData, request._form)),
            most=NAMED,
        )


def _told(request: Request, decision: Decision, outcome: Outcome, back: str) -> Response:
    if outcome.refused == 0:
        return redirect(back, _sentence(decision, outcome))
    if outcome.done == 0 and len(outcome.refusals) == 1:
        [refusal] = outcome.refusals
        return redirect(back, f"{refusal.email or 'Nothing done'}: {refusal.sentence}", failed=True)
    return render(
        request,
        "people_done.html",
        outcome=outcome,
        sentence=_sentence(decision, outcome),
        unnamed=outcome.refused - len(outcome.refusals),
        back=back,
    )


def _sentence(decision: Decision, outcome: Outcome) -> str:
    if not outcome.done:
        return "Nothing was done."
    ended = "" if decision.columns else f": {plural(outcome.sessions, 'session')}"
    return f"{decision.done} {whom(outcome)}{ended}."


def whom(outcome: Outcome) -> str:
    """Return the one person by their address, or how many there are."""
    if outcome.done == 1:
        return str(outcome.people[0]["email"])
    return f"{outcome.done:,} people"


def groups_of(request: Request) -> dict[str, Group]:
    """Return the groups of people that there are here, by name."""
    return cast(dict[str, Group], request.app.state.groups())


def address_of(chosen: Filter, before: int | None = None) -> str:
    """Return the address of a list."""
    asked: dict[str, Any] = {"group": chosen.group.name, "q": chosen.search, "before": before}
    return f"{PEOPLE}?{urlencode({name: value for name, value in asked.items() if value})}"


def back_of(form: FormData) -> str:
    """Return where somebody came from: the list, or a person's page."""
    path = local_path(str(form.get("back", "")))
    return path if path.startswith((f"{PEOPLE}?", f"{PEOPLE}/")) else PEOPLE


def number_of(count: int, most: int) -> str:
    """Return a number of people in words, where counting went no further than `most`."""
    return f"{most:,}+" if count > most else f"{count:,}"


def _filter(request: Request, given: Any) -> Filter:
    """Return what a query, or a form, says of the people that are meant."""
    group = groups_of(request).get(str(given.get("group", "")), WAITING)
    [until] = people.ids_of([str(given.get("until", ""))]) or [people.LAST_ID]
    return Filter(group, people.cleaned(str(given.get("q", ""))), until)


def _decision(form: FormData) -> Decision:
    name = "approve" if "one" in form else str(form.get("action") or form.get("all"))
    if name not in DECISIONS:
        raise HTTPException(400, "This form says nothing that could be done.")
    return DECISIONS[name]


def _about(request: Request, form: FormData) -> list[int] | Filter:
    """Return the person whose own button was pressed, all that match, or who is ticked."""
    if "one" in form:
        return people.ids_of([str(form["one"])])
    if "all" in form:
        return _filter(request, form)
    return people.ids_of([str(value) for value in form.getlist("id")])
