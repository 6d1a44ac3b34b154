"""Every route of the application, those of piccolo-admin included: who may use it, and how.

A new route is missing in the list, and fails the test until somebody has said who may use it.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any

import httpx
import pytest
from pydantic import SecretStr
from starlette.applications import Starlette
from starlette.routing import BaseRoute, Mount

import piccolo_conf_test as piccolo_conf
from audit.tables import AuditLog, AuditSeal
from home.accounts.authenticator import AuthenticatorSecret
from home.backoffice.mounting import BackOffice
from home.config.providers import Provider
from home.database.engine import Engine
from home.tables import Session, User, UserPreference
from home.web.people import CSRF_HEADER, csrf_token
from sync_history.directory.tables import DirectoryPerson
from sync_history.tables import SyncRun
from tests.conftest import PASSWORD, client_with

pytestmark = pytest.mark.any_version

# Each includes those after it.
ANYBODY, MEMBERS, AUDITORS, ADMINISTRATORS, SUPERUSERS, NOBODY = range(6)
METHODS = ("GET", "OPTIONS", "TRACE", "POST", "PATCH", "PUT", "DELETE")  # what removes comes last

# Path, method, and who may use it. HEAD goes with GET.
OURS: dict[str, dict[str, int]] = {
    "/": {"GET": ANYBODY},
    "/sign-in": {"GET": ANYBODY, "POST": ANYBODY},
    "/register": {"GET": ANYBODY, "POST": ANYBODY},
    "/second-factor": {"GET": ANYBODY, "POST": ANYBODY},
    "/sign-out": {"POST": MEMBERS},
    "/account": {"GET": MEMBERS},
    "/account/data.json": {"GET": MEMBERS},
    "/account/profile": {"POST": MEMBERS},
    "/account/password": {"POST": MEMBERS},
    "/account/sessions/end": {"POST": MEMBERS},
    "/account/sessions/end-others": {"POST": MEMBERS},
    "/people": {"GET": AUDITORS},
    "/people/decide": {"POST": ADMINISTRATORS},
    "/people/{id:int}": {"GET": AUDITORS},
    "/people/{id:int}/sessions/end": {"POST": ADMINISTRATORS},
    "/people/{id:int}/password": {"POST": SUPERUSERS},
    "/people/{id:int}/link": {"POST": SUPERUSERS},
    "/people/invite": {"POST": ADMINISTRATORS},
    "/link/{token}": {"GET": ANYBODY, "POST": ANYBODY},
    "/people/{id:int}/second-factor/remove": {"POST": SUPERUSERS},
    "/people/{id:int}/rights": {"POST": SUPERUSERS},
    "/people/{id:int}/erase": {"GET": SUPERUSERS, "POST": SUPERUSERS},
    "/trail": {"GET": AUDITORS},
    "/trail/export": {"GET": AUDITORS},
    "/trail/seals": {"GET": AUDITORS},
    "/trail/seals.ndjson": {"GET": AUDITORS},
    "/trail/seals/verify": {"POST": ADMINISTRATORS},
    "/trail/{id:int}": {"GET": AUDITORS},
    "/trail/{id:int}/proof.json": {"GET": ADMINISTRATORS},
    "/trail/of/{table}/{key:path}": {"GET": AUDITORS},
    "/admin/api/mfa-setup/{rest:path}": {"GET": ANYBODY, "POST": ANYBODY},
    "/favicon.ico": {"GET": ANYBODY},
    "/static/*": {"GET": ANYBODY},
    "/health": {"GET": ANYBODY},
    "/health/live": {"GET": ANYBODY},
    "/metrics": {"GET": ANYBODY},  # of METRICS_NETWORKS
    "/api/health": {"GET": ANYBODY},
    "/api/openapi.json": {"GET": ANYBODY},
    "/api/docs": {"GET": ANYBODY},
    "/api/register": {"POST": ANYBODY},
    "/api/sign-in": {"POST": ANYBODY},
    "/api/sign-out": {"POST": MEMBERS},
    "/api/me": {"GET": MEMBERS, "PATCH": MEMBERS},
    "/api/me/password": {"POST": MEMBERS},
    "/api/me/preferences": {"GET": MEMBERS, "PUT": MEMBERS, "PATCH": MEMBERS},
    "/api/me/sessions": {"GET": MEMBERS, "DELETE": MEMBERS},
    "/api/me/sessions/{sid}": {"DELETE": MEMBERS},
    "/sync": {"GET": AUDITORS},
    "/sync/{source}": {"GET": AUDITORS},
    "/sync/{source}/start": {"POST": ADMINISTRATORS},
    "/sync/runs/{id:int}": {"GET": AUDITORS},
    "/sync/runs/{id:int}/cancel": {"POST": ADMINISTRATORS},
    "/sync/runs/{id:int}/again": {"POST": ADMINISTRATORS},
    "/api/people": {"GET": AUDITORS},
    "/api/people/decisions": {"POST": ADMINISTRATORS},
    "/api/trail": {"GET": AUDITORS},
    "/api/trail/{id}": {"GET": AUDITORS},
    "/api/trail/of/{table}/{key:path}": {"GET": AUDITORS},
    "/api/sync": {"GET": ADMINISTRATORS},
    "/api/sync/{source}": {"POST": ADMINISTRATORS},
    "/api/sync/runs/{id}": {"GET": ADMINISTRATORS},
    "/api/sync/runs/{id}/log": {"GET": ADMINISTRATORS},
    "/api/sync/runs/{id}/cancel": {"POST": ADMINISTRATORS},
}
PICCOLO_ADMIN: dict[str, dict[str, int]] = {
    "/admin/": {"GET": ADMINISTRATORS},
    "/admin/openapi.json": {"GET": ANYBODY},  # which names nothing
    "/admin/assets/*": {"GET": ANYBODY},
    "/admin/public/openapi.json": {"GET": ANYBODY},
    "/admin/public/login/*": {"GET": NOBODY, "POST": ANYBODY},  # we have a page of our own
    "/admin/public/logout/": {"POST": MEMBERS},
    "/admin/public/meta/": {"GET": ANYBODY},
    "/admin/public/translations/": {"GET": ANYBODY},
    "/admin/public/translations/{language_code:str}/": {"GET": ANYBODY},
    "/admin/api/openapi.json": {"GET": ADMINISTRATORS},
    "/admin/api/user/": {"GET": ADMINISTRATORS},
    "/admin/api/change-password/": {"POST": ADMINISTRATORS},
    "/admin/api/links/": {"GET": ADMINISTRATORS},
    "/admin/api/media/": {"POST": ADMINISTRATORS},  # no table has files
    "/admin/api/media/generate-file-url/": {"POST": ADMINISTRATORS},
    "/admin/api/forms/": {"GET": ADMINISTRATORS},
    "/admin/api/forms/grouped/": {"GET": ADMINISTRATORS},
    "/admin/api/forms/{form_slug:str}/": {"GET": ADMINISTRATORS, "POST": ADMINISTRATORS},
    "/admin/api/forms/{form_slug:str}/schema/": {"GET": ADMINISTRATORS},
    "/admin/api/tables/": {"GET": ADMINISTRATORS},
    "/admin/api/tables/grouped/": {"GET": ADMINISTRATORS},
}
# Of each table: who reads it, and who may do what to its rows.
READ_ONLY = {"POST": NOBODY, "PATCH": NOBODY, "PUT": NOBODY, "DELETE": NOBODY}
TABLES: dict[str, dict[str, int]] = {
    "audit_logs": READ_ONLY,
    "audit_seals": READ_ONLY,
    "authenticator_secrets": READ_ONLY,
    "directory_people": READ_ONLY,
    "sessions": READ_ONLY | {"DELETE": SUPERUSERS},
    "sync_history": READ_ONLY,
    "user_preferences": READ_ONLY,
    "users": {"POST": NOBODY, "PATCH": SUPERUSERS, "PUT": NOBODY, "DELETE": SUPERUSERS},
}
FORMS = {
    "approve-a-person", "reject-a-person", "disable-a-person", "enable-a-person",
    "revoke-sessions", "create-a-person", "give-a-new-password", "remove-a-second-factor",
    "export-the-trail", "start-a-sync", "cancel-a-run",
}  # fmt: skip


def table_routes() -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {}
    for table, who in TABLES.items():
        path = f"/admin/api/tables/{table}/"
        found[path] = {"GET": ADMINISTRATORS, "POST": who["POST"]}
        for read in ("ids", "new", "count", "schema", "references"):
            found[f"{path}{read}/"] = {"GET": ADMINISTRATORS}
        found[f"{path}{{row_id:str}}/"] = {"GET": ADMINISTRATORS} | {
            method: who[method] for method in ("PATCH", "PUT", "DELETE")
        }
    return found


LISTED = OURS | PICCOLO_ADMIN | table_routes()


def walk(routes: list[BaseRoute], prefix: str = "") -> Iterator[tuple[str, set[str]]]:
    """Yield path and methods of all routes. What is mounted and has none itself is `/*`."""
    for route in routes:
        path = prefix + getattr(route, "path", "?")
        app: Any = getattr(route, "app", None) if isinstance(route, Mount) else None
        if app is None:
            yield path, methods_of(route)
            continue
        while not hasattr(app, "routes") and (inside := inner(app)) is not None:
            app = inside
        if hasattr(app, "routes"):
            yield from walk(app.routes, path)
        else:
            yield f"{path}/*", methods_of(app)


def inner(app: Any) -> Any:
    """Return what a middleware stands around."""
    return app.build() if isinstance(app, BackOffice) else getattr(app, "app", None)


def methods_of(route: Any) -> set[str]:
    methods: set[str] | None = getattr(route, "methods", None)
    if methods is None:
        endpoint = getattr(route, "endpoint", route)
        methods = {method for method in METHODS if hasattr(endpoint, method.lower())} or {"GET"}
    return methods - {"HEAD"}


def routes_of(app: Starlette) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for path, methods in walk(app.routes):
        found.setdefault(path, set()).update(methods)
    return found


def test_every_route_is_listed(app_without_database: Starlette) -> None:
    expected = {path: set(methods) for path, methods in LISTED.items()}
    assert routes_of(app_without_database) == expected


def test_every_route_of_what_is_set_up_is_listed() -> None:
    from tests.conftest import create_app

    app = create_app(piccolo_conf.SETTINGS.model_copy(update=EVERYTHING))
    expected = {path: set(methods) for path, methods in (LISTED | OPTIONAL).items()}
    assert routes_of(app) == expected


@pytest.fixture
def app_without_database() -> Starlette:
    from tests.conftest import create_app

    return create_app()


class Cast:
    """Nobody, a member, an auditor, an administrator and a superuser, each with a new session per
    request."""

    def __init__(self, client: httpx.AsyncClient, people: list[User | None]) -> None:
        self.client = client
        self.people = people

    async def ask(self, who: int, method: str, path: str, **content: Any) -> httpx.Response:
        person = self.people[who]
        self.client.cookies.clear()
        headers = {"X-CSRFToken": "x" * 36}
        cookies = {"csrftoken": "x" * 36}
        if person is not None:
            token = (await Session.create_session(person.id)).token
            cookies["id"] = token
            headers[CSRF_HEADER] = csrf_token(token)
            if "form" in content:
                content["data"] = content.pop("form") | {"csrf_token": csrf_token(token)}
        else:
            content["data"] = content.pop("form", None)
        headers["cookie"] = "; ".join(f"{name}={value}" for name, value in cookies.items())
        return await self.client.request(method, path, headers=headers, **content)


@pytest.fixture
async def people(client: httpx.AsyncClient, administrator: User, member: User) -> Cast:
    rights = {"is_admin": True, "is_approved": True}
    olga = await User.create_user("olga@example.com", PASSWORD, **rights)
    rights = {"is_auditor": True, "is_approved": True}
    vera = await User.create_user("vera@example.com", PASSWORD, **rights)
    return Cast(client, [None, member, vera, olga, administrator])


@pytest.fixture
async def rows(people: Cast, db: Engine) -> dict[str, Any]:
    """The key of a row in each table."""
    victim = await User.create_user("vic@example.com", PASSWORD, is_approved=True)
    other = await User.create_user("oda@example.com", PASSWORD, is_approved=True)
    preference = UserPreference(user_id=other.id, preferences="{}")
    secret = AuthenticatorSecret(user_id=other.id, secret="x", recovery_codes=[])
    run = SyncRun(source="crm")
    seal = AuditSeal(
        first_id=1, last_id=1, row_count=1, root="0" * 64, leaves=b"", algorithm="sha256",
        digest="0" * 64,
    )  # fmt: skip
    for row in (preference, secret, run, seal, DirectoryPerson(user_id=other.id)):
        await row.save()
    session = await Session.create_session(other.id)
    log = await AuditLog.objects().first()
    assert log is not None
    return {
        "users": victim.id, "user_preferences": preference.id, "sync_history": run.id,
        "authenticator_secrets": secret.id, "audit_logs": log.id, "audit_seals": seal.id,
        "sessions": session.sid, "directory_people": other.id,
    }  # fmt: skip


# What only some have set up, and its routes.
EVERYTHING: dict[str, Any] = {
    "api_tokens": True,
    "identity_providers": (
        Provider(
            name="acme", issuer="https://id.invalid", client_id="us", client_secret=SecretStr("x")
        ),
    ),
    "public_url": "http://test",
    "smtp_url": SecretStr("smtp://127.0.0.1:9"),
    "mail_from": "tools@example.com",
}
OPTIONAL = {
    "/account/tokens": {"POST": MEMBERS},
    "/account/tokens/end": {"POST": MEMBERS},
    "/people/service": {"POST": ADMINISTRATORS},
    "/people/{id:int}/tokens": {"POST": ADMINISTRATORS},
    "/people/{id:int}/tokens/end": {"POST": ADMINISTRATORS},
    "/api/me/tokens": {"GET": MEMBERS, "POST": MEMBERS},
    "/api/me/tokens/{id}": {"DELETE": MEMBERS},
    "/sign-in/with/{provider}": {"GET": ANYBODY},
    "/sign-in/with/{provider}/callback": {"GET": ANYBODY},
    "/sign-in/with/{provider}/logout": {"POST": ANYBODY},
    "/sign-in/with/{provider}/sign-out": {"GET": ANYBODY},
    "/account/identities/link": {"POST": MEMBERS},
    "/account/identities/unlink": {"POST": MEMBERS},
    "/account/address": {"POST": MEMBERS},
    "/forgotten": {"GET": ANYBODY, "POST": ANYBODY},
    "/messages": {"GET": ADMINISTRATORS},
    "/messages/again": {"POST": ADMINISTRATORS},
}

# What is sent, where `{}` would not tell a stranger from somebody who mistyped.
FORMS_SENT = {
    "/sign-in": {"email": "mel@example.com", "password": PASSWORD},
    "/sign-out": {},
    "/account/profile": {},
    "/account/password": {"old": PASSWORD, "new": PASSWORD, "again": PASSWORD},
    "/account/sessions/end": {},
    "/account/sessions/end-others": {},
    "/sync/{source}/start": {},
    "/sync/runs/{id:int}/cancel": {},
    "/sync/runs/{id:int}/again": {},
    "/people/decide": {"action": "approve"},
    "/people/{id:int}/sessions/end": {},
    "/people/{id:int}/password": {},
    "/people/{id:int}/link": {},
    "/people/invite": {"email": "new@example.com"},
    "/link/{token}": {},
    "/people/service": {"email": "ci@example.com"},
    "/people/{id:int}/tokens": {},
    "/people/{id:int}/tokens/end": {},
    "/account/tokens": {"password": PASSWORD},
    "/account/tokens/end": {},
    "/account/identities/link": {"provider": "acme", "password": PASSWORD},
    "/account/identities/unlink": {},
    "/account/address": {"email": "new@example.com", "password": PASSWORD},
    "/forgotten": {"email": "new@example.com"},
    "/sign-in/with/{provider}/logout": {},
    "/messages/again": {},
    "/people/{id:int}/second-factor/remove": {},
    "/people/{id:int}/rights": {},
    "/people/{id:int}/erase": {},
    "/trail/seals/verify": {},
}
BODIES = {
    "/admin/api/tables/users/{row_id:str}/": {"display_name": "Vic"},
    "/api/me/password": {"old": PASSWORD, "new": PASSWORD},
    "/api/people/decisions": {"action": "approve", "ids": [4711]},
    "/api/me/tokens": {"name": "x", "scopes": ["read"], "password": PASSWORD},
}


def address(path: str, rows: Mapping[str, Any]) -> str:
    """Return a path with values in the places of parameters."""
    table = path.removeprefix("/admin/api/tables/").partition("/")[0]
    values = {"row_id": rows.get(table), "form_slug": "approve-a-person", "language_code": "en"}
    filled = re.sub(r"{(\w+)[^}]*}", lambda found: str(values.get(found[1], "7")), path)
    return filled.replace("*", "")


def is_refused(answer: httpx.Response) -> bool:
    """Return whether somebody may not. A form that did something leads on with a cookie."""
    place = answer.headers.get("location", "").partition("?")[0]
    is_sent_away = answer.status_code == 303 and place in ("/sign-in", "/account", "/")
    elsewhere = is_sent_away and "set-cookie" not in answer.headers and answer.url.path != "/"
    return elsewhere or answer.status_code in (401, 403, 405)


async def test_each_route_is_for_whom_the_list_says(people: Cast, rows: dict[str, Any]) -> None:
    wrong = await wrongly_answered(people, rows, LISTED)
    assert wrong == [], "\n".join(map(str, wrong))


async def test_each_route_of_what_is_set_up_is_for_whom_the_list_says(
    people: Cast, rows: dict[str, Any]
) -> None:
    async with client_with(**EVERYTHING) as client:
        cast = Cast(client, people.people)
        wrong = await wrongly_answered(cast, rows, OPTIONAL)
    assert wrong == [], "\n".join(map(str, wrong))


async def wrongly_answered(
    people: Cast, rows: dict[str, Any], listed: Mapping[str, Mapping[str, int]]
) -> list[tuple[str, str, int, int]]:
    """Ask for each route as everybody; return those that did not answer as they should."""
    wrong: list[tuple[str, str, int, int]] = []
    for path, allowed in listed.items():
        for method in METHODS:
            for who in (ANYBODY, MEMBERS, AUDITORS, ADMINISTRATORS, SUPERUSERS):
                content: dict[str, Any] = {}
                if method == "POST" and path in FORMS_SENT:
                    content = {"form": FORMS_SENT[path]}
                elif method in ("POST", "PATCH", "PUT"):
                    content = {"json": BODIES.get(path, {})}
                answer = await people.ask(who, method, address(path, rows), **content)
                assert answer.status_code < 500 or method == "TRACE", (method, path, answer.text)
                is_allowed = who >= allowed.get(method, NOBODY)
                is_absent = method not in allowed and answer.status_code in (400, 404)
                if (is_refused(answer) or is_absent) is is_allowed:
                    wrong.append((method, path, who, answer.status_code))
    return wrong


@pytest.mark.parametrize("who", [ANYBODY, MEMBERS, SUPERUSERS])
@pytest.mark.parametrize("path", ["login", "login/", "login/x", "docs/", "logout/"])
async def test_no_page_of_piccolo_api_is_shown(people: Cast, path: str, who: int) -> None:
    for method in ("GET", "HEAD"):
        answer = await people.ask(who, method, f"/admin/public/{path}")
        if path.startswith("login"):
            assert answer.status_code == 303
            assert answer.headers["location"] == "/sign-in?next=/admin/"
        assert "text/html" not in answer.headers.get("content-type", "")


async def test_every_form_is_listed(people: Cast) -> None:
    answer = await people.ask(ADMINISTRATORS, "GET", "/admin/api/forms/")
    assert {form["slug"] for form in answer.json()} == FORMS


SPELLINGS = [
    "", "/", "/x", "/x/", "//", "/%2e%2e/mfa-setup/", "/../mfa-setup/", "/.", "%2f", "%2fx", ";x/",
    "/?x=/", "/#", "%00/", "%20/", "/%ff",
]  # fmt: skip
PREFIXES = [
    "/admin/api/mfa-setup", "/admin/api/%6dfa-setup", "/admin/api/mfa%2dsetup",
    "/admin/api/MFA-SETUP", "/admin/api//mfa-setup", "/admin//api/mfa-setup",
    "/admin/./api/mfa-setup", "/admin/api/./mfa-setup", "/admin/api/x/../mfa-setup",
    "/admin/api%2fmfa-setup", "//admin/api/mfa-setup", "/admin/api;/mfa-setup",
]  # fmt: skip


@pytest.fixture
async def enrolled(url: str, administrator: User) -> AsyncIterator[httpx.AsyncClient]:
    """Ada in the back office, with a second factor."""
    async with client_with(mfa_key=SecretStr("k" * 32)) as client:
        await AuthenticatorSecret(user_id=administrator.id, secret="x", recovery_codes=[]).save()
        await client.get("/admin/public/meta/")
        client.headers["X-CSRFToken"] = client.cookies["csrftoken"]
        client.cookies["id"] = (await Session.create_session(administrator.id)).token
        assert (await client.get("/admin/api/user/")).status_code == 200
        yield client


@pytest.mark.parametrize("prefix", PREFIXES)
async def test_no_spelling_reaches_the_second_factors_of_piccolo_api(
    enrolled: httpx.AsyncClient, prefix: str
) -> None:
    before = await AuthenticatorSecret.select()
    for rest in SPELLINGS:
        for action in ("revoke", "register"):
            body = {"action": action, "password": PASSWORD, "format": "json"}
            for sent in ({"content": json.dumps(body)}, {"data": body}):
                answer = await enrolled.post(prefix + rest, **sent)
                assert answer.status_code in (303, 307, 404, 405, 422), (rest, answer.text)
                assert answer.headers.get("location", "/second-factor") == "/second-factor" or (
                    answer.status_code == 307
                )
        page = await enrolled.get(prefix + rest)
        assert page.status_code in (303, 307, 404), (rest, page.text)
    assert await AuthenticatorSecret.select() == before
