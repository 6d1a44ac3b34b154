"""`/api/people`: the people as `/people` lists them, and what is decided about them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from home.accounts import people
from home.accounts.decisions import DECISIONS, MOST_IDS, decide
from home.accounts.people import ALL, LAST_ID, PAGE, WAITING, Filter
from home.services import Services
from home.web.bodies import Body, answer, body_of
from home.web.openapi import Operation
from home.web.people import Who, person_of, services_of

SHOWN = (
    "id", "email", "display_name", "organization", "is_admin", "is_superuser", "is_auditor",
    "is_approved", "is_disabled", "created_at", "approved_at", "approved_by", "last_login_at",
)  # fmt: skip
# Of a request for an account somebody may have decided meanwhile.
EXPECTED = {"approve": WAITING, "reject": WAITING}


class ListedPerson(BaseModel):
    """A person with an account; `state` is waiting, active, rejected or disabled."""

    id: int
    email: str
    display_name: str | None
    organization: str | None
    is_admin: bool
    is_superuser: bool
    is_auditor: bool
    is_approved: bool
    is_disabled: bool
    state: str
    created_at: AwareDatetime
    approved_at: AwareDatetime | None
    approved_by: int | None
    last_login_at: AwareDatetime | None


class PeoplePage(BaseModel):
    """The newest first; `next` is the `before` of the page that follows, null at the end."""

    people: list[ListedPerson]
    next: int | None


class PeopleDecision(Body):
    """A decision, and whom it is about."""

    action: Literal["approve", "reject", "disable", "enable", "end_sessions"]
    ids: Annotated[list[int], Field(min_length=1, max_length=MOST_IDS)]


class RefusedPerson(BaseModel):
    """Somebody about whom it was not done; `reason` is for programs, `message` for people."""

    id: int
    email: str | None
    reason: str
    message: str


class PeopleDecided(BaseModel):
    """Those about whom it was done, and the others."""

    done: list[int]
    refused: list[RefusedPerson]
    sessions_ended: int


def operations(services: Services) -> list[Operation]:
    """Return what administrators do with people; auditors may list them."""
    return [
        Operation(
            "GET", "/api/people", list_people, "People, 50 at a time.",
            answer=PeoplePage, errors=(403, 422),
            query={
                "group": "waiting, active, disabled, administrators, all, or of another app",
                "q": "words that the name or the address begins with",
                "before": "the id before which the page begins",
            },
        ),
        Operation(
            "POST", "/api/people/decisions", decide_about_people,
            "Decide about people in one transaction. Each who is left out is named.",
            PeopleDecision, PeopleDecided,
        ),
    ]  # fmt: skip


async def list_people(request: Request) -> Response:
    await person_of(request, Who.READERS)
    given = request.query_params
    group = request.app.state.groups().get(given.get("group", ALL.name))
    if group is None:
        raise HTTPException(422, "There is no such group.")
    before = given.get("before", str(LAST_ID))
    if not people.ids_of([before]):
        raise HTTPException(422, "before: an id")
    chosen = Filter(group, people.cleaned(given.get("q", "")))
    db = services_of(request).db
    rows, following = await people.page_of(db, chosen, people.ids_of([before])[0], PAGE)
    return answer({"people": [_person(row) for row in rows], "next": following})


async def decide_about_people(request: Request) -> Response:
    body = await body_of(request, PeopleDecision)
    by = await person_of(request, Who.ADMINISTRATORS)
    ids = list(dict.fromkeys(body.ids))
    known = [each for each in ids if 0 < each <= LAST_ID]
    if len(known) < len(ids):
        raise HTTPException(422, f"ids: numbers from 1 to {LAST_ID}")
    expected = Filter(EXPECTED.get(body.action, ALL))
    outcome = await decide(services_of(request).db, by.id, DECISIONS[body.action], ids, expected)
    return answer(
        {
            "done": [each["id"] for each in outcome.people],
            "refused": [{**each._asdict(), "message": each.sentence} for each in outcome.refusals],
            "sessions_ended": outcome.sessions,
        }
    )


def _person(row: Any) -> dict[str, Any]:
    return {name: row[name] for name in SHOWN} | {"state": people.state_of(row)}
