"""The pages of people: who sees them, what is decided there, and what is refused."""

from __future__ import annotations

import asyncio
import re
from html import unescape
from typing import Any

import asyncpg
import httpx
import pytest
from starlette.applications import Starlette

from audit.context import Actor, acting_as
from audit.errors import Refused
from audit.tables import AuditLog
from home.accounts import authenticator, rights
from home.accounts.authenticator import AuthenticatorSecret
from home.accounts.decisions import DECISIONS, decide
from home.accounts.people import ALL, WAITING, Filter
from home.database.engine import Engine
from home.tables import Session, User
from tests.conftest import PASSWORD, browser, enter

pytestmark = pytest.mark.any_version

HOSTILE = [
    "<script>alert(1)</script>", "{{7*7}}", "\u202egnp.exe", "x" * 255, "' OR 1=1 --", "Ren\u00e9e",
]  # fmt: skip


async def waiting(count: int, name: str = "w") -> list[int]:
    """People who wait, the oldest first."""
    made = []
    for n in range(count):
        user = await User.store(f"{name}{n}@example.com", "", display_name=f"Wim {name}{n}")
        made.append(user.id)
    return made


async def olga() -> User:
    """An administrator who is no superuser."""
    return await User.create_user("olga@example.com", PASSWORD, is_admin=True, is_approved=True)


async def send(
    client: httpx.AsyncClient, path: str = "/people/decide", **fields: Any
) -> httpx.Response:
    """Send a form as a browser does, with the token of its session."""
    page = (await client.get("/account")).text
    token = re.search(r'name="csrf_token" value="(\w+)"', page)
    assert token is not None, page
    return await client.post(path, data=fields | {"csrf_token": token[1]}, follow_redirects=True)


async def states(*ids: int) -> list[tuple[bool, bool]]:
    rows = await User.select(User.id, User.is_approved, User.is_disabled)
    found = {row["id"]: (row["is_approved"], row["is_disabled"]) for row in rows}
    return [found[each] for each in ids]


def text(page: httpx.Response) -> str:
    """What is read of a page, in one line."""
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", page.text)).split())


def emails(page: httpx.Response) -> list[str]:
    """The addresses of the people in the list, in order."""
    return re.findall(r'href="/people/\d+"><bdi>[^<]*</bdi></a>\s*(?:<[^>]+>|\s|[a-z ])*?<br><span'
                      r' class="soft">([^<]+)<', page.text)  # fmt: skip


@pytest.fixture
async def ada(client: httpx.AsyncClient, administrator: User) -> httpx.AsyncClient:
    await enter(client, administrator.email)
    return client


async def test_groups_are_counted_and_those_who_wait_come_newest_first(
    ada: httpx.AsyncClient, member: User
) -> None:
    await waiting(3)
    page = await ada.get("/people")
    assert emails(page) == ["w2@example.com", "w1@example.com", "w0@example.com"]
    tabs = re.findall(r'href="/people\?group=(\w+)"[^>]*>[\w ]+<small>([\d,+]+)</small>', page.text)
    assert tabs[:4] == [
        ("waiting", "3"), ("active", "2"), ("disabled", "0"), ("administrators", "1"),
    ]  # fmt: skip
    assert tabs[-1] == ("all", "5")
    assert "mel@example.com" in (await ada.get("/people?group=active")).text
    assert emails(await ada.get("/people?group=nonsense&before=x&q=")) == emails(page)


async def test_pages_follow_each_other_without_gaps(ada: httpx.AsyncClient) -> None:
    await waiting(120)
    seen, path = list[str](), "/people?group=waiting&q=wim"
    while path:
        page = await ada.get(path)
        seen += emails(page)
        found = re.search(r'href="([^"]+)" rel="next"', page.text)
        path = unescape(found[1]) if found else ""
    assert seen == [f"w{n}@example.com" for n in reversed(range(120))]


@pytest.mark.parametrize(
    ("typed", "found"),
    [
        ("hop", ["grace"]), ("GRACE hop", ["grace"]), ("grace@exa", ["grace"]), ("racing", []),
        ("race", []), ("@", []), ("example", ["hedy", "grace"]), ("l'am", ["hedy"]), ("%", []),
        ("' & !", []), ("a:* | b", []), ("\x00grace\ud800", ["grace"]), ("x" * 999, []),
    ],
)  # fmt: skip
async def test_words_of_names_and_addresses_are_searched(
    ada: httpx.AsyncClient, typed: str, found: list[str]
) -> None:
    for name, shown in (("grace", "Grace Hopper"), ("hedy", "Hedy L'Amarr")):
        await User.store(f"{name}@example.com", "", display_name=shown)
    query = typed.encode("utf-8", "replace").decode()
    page = await ada.get("/people", params={"q": query})
    assert page.status_code == 200
    assert emails(page) == [f"{name}@example.com" for name in found]


async def test_hostile_names_are_text(ada: httpx.AsyncClient) -> None:
    for n, name in enumerate(HOSTILE):
        await User.store(f"h{n}@example.com", "", display_name=name)
    page = await ada.get("/people")
    ids = re.findall(r'name="id" value="(\d+)"', page.text)
    assert len(ids) == len(HOSTILE)
    confirm = await send(ada, action="reject", group="waiting", id=ids)
    for shown in (page, confirm, *[await ada.get(f"/people/{each}") for each in ids]):
        assert shown.status_code == 200
        assert "<script>alert" not in shown.text
        assert "49" not in re.sub(r'value="[^"]*"|title="[^"]*"', "", text(shown))
        assert shown.text.count("\u202e") == shown.text.count("<bdi>\u202e") + shown.text.count(
            "<title>\u202e"
        )


async def test_many_are_approved_at_once_and_others_rejected_after_a_question(
    ada: httpx.AsyncClient, administrator: User
) -> None:
    ids = await waiting(25)
    page = await send(ada, action="approve", group="waiting", id=ids[:20], back="/people?q=wim")
    assert (page.url.path, page.url.query) == ("/people", b"q=wim")
    assert "Approved 20 people." in page.text
    assert await states(*ids[:20]) == [(True, False)] * 20
    page = await send(ada, action="reject", group="waiting", id=ids[20:])
    assert "Reject 5 people?" in page.text
    assert "w24@example.com" in page.text
    assert await states(*ids[20:]) == [(False, False)] * 5
    page = await send(ada, action="reject", group="waiting", id=ids[20:], confirmed="yes")
    assert "Rejected 5 people." in page.text
    assert await states(*ids[20:]) == [(False, True)] * 5
    rows = await AuditLog.select().where(AuditLog.action == "users.update")
    assert len(rows) == 25
    assert {(row["actor"], row["is_admin_action"]) for row in rows} == {("ada@example.com", True)}
    assert len({row["request_id"] for row in rows}) == 2
    assert await User.count().where(User.approved_by == administrator.id) == 20


async def test_who_does_not_wait_any_more_is_named_and_the_others_are_approved(
    ada: httpx.AsyncClient,
) -> None:
    ids = await waiting(5)
    await User.update({User.is_disabled: True}).where(User.id == ids[0])
    await User.update({User.is_approved: True}).where(User.id == ids[1])
    await User.delete().where(User.id == ids[2])
    page = await send(ada, action="approve", group="waiting", id=ids)
    told = text(page)
    assert "Approved 2 people." in told
    assert "w0@example.com Is rejected already." in told
    assert "w1@example.com Is approved and active already." in told
    assert f"Account {ids[2]} There is no such account any more." in told
    assert await states(*ids[:2], *ids[3:]) == [
        (False, True), (True, False), (True, False), (True, False),
    ]  # fmt: skip


async def test_all_that_match_are_those_that_were_there(ada: httpx.AsyncClient) -> None:
    ids = await waiting(60)
    others = await waiting(1, "other")
    page = await ada.get("/people?q=w1")
    until = re.search(r'name="until" value="(\d+)"', page.text)
    assert until is not None
    late = await waiting(1, "w1late")
    matched = [1, *range(10, 20)]
    page = await send(ada, all="approve", group="waiting", q="w1", until=until[1])
    assert "Approved 11 people." in page.text
    approved = await User.select(User.id).where(User.is_approved.eq(True), User.is_admin.eq(False))
    assert {row["id"] for row in approved} == {ids[n] for n in matched}
    assert await states(*others, *late) == [(False, False)] * 2


async def test_more_than_a_page_are_not_approved_without_a_question(ada: httpx.AsyncClient) -> None:
    ids = await waiting(60)
    page = await send(ada, all="approve", group="waiting")
    assert "Approve 60 people?" in page.text
    assert (await states(*ids))[0] == (False, False)
    fields = dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', page.text))
    page = await send(ada, **fields)
    assert "Approved 60 people." in page.text
    assert set(await states(*ids)) == {(True, False)}


async def test_what_will_be_refused_is_named_before(
    client: httpx.AsyncClient, administrator: User, member: User
) -> None:
    by = await olga()
    await enter(client, by.email)
    ids = [administrator.id, member.id, by.id]
    for confirmed in ({}, {"confirmed": "yes"}):
        page = await send(client, action="disable", group="active", id=ids, **confirmed)
        told = text(page)
        assert "ada@example.com Only superusers decide about administrators." in told
        assert "olga@example.com This is you." in told
        assert "mel@example.com" in told
    assert await states(*ids) == [(True, False), (True, True), (True, False)]


async def test_the_last_superuser_stays(ada: httpx.AsyncClient, administrator: User) -> None:
    for action in ("disable", "reject"):
        page = await send(ada, action=action, group="all", id=administrator.id, confirmed="yes")
        assert "The last active superuser stays" in page.text
    assert await states(administrator.id) == [(True, False)]


async def test_everybody_of_a_group_but_oneself_is_disabled(
    ada: httpx.AsyncClient, administrator: User, member: User
) -> None:
    by = await olga()
    page = await send(ada, all="disable", group="active")
    assert "Disable 2 people?" in page.text
    page = await send(ada, all="disable", group="active", confirmed="yes")
    assert "Disabled 2 people." in text(page)
    assert "ada@example.com The last active superuser stays" in text(page)
    assert await states(administrator.id, member.id, by.id) == [
        (True, False), (True, True), (True, True),
    ]  # fmt: skip


async def test_sessions_of_many_end(ada: httpx.AsyncClient, member: User) -> None:
    for _ in range(3):
        await Session.create_session(member.id)
    page = await send(ada, action="end_sessions", group="active", id=member.id)
    assert "End sessions of mel@example.com?" in page.text
    page = await send(ada, action="end_sessions", group="active", id=member.id, confirmed="yes")
    assert "Ended the sessions of mel@example.com: 3 sessions." in page.text
    assert not await Session.exists().where(Session.user_id == member.id)


async def test_nobody_too_many_and_nonsense(ada: httpx.AsyncClient) -> None:
    for fields, sentence in (
        ({"action": "approve"}, "Choose somebody first."),
        ({"action": "approve", "id": "x"}, "Choose somebody first."),
        ({"action": "approve", "id": str(10**30)}, "Choose somebody first."),
        ({"action": "approve", "id": "4711"}, "There is no such account any more."),
    ):
        assert sentence in (await send(ada, **fields)).text, fields
    for fields in ({}, {"action": "drop"}, {"all": "\u00e9"}):
        assert (await send(ada, **fields)).status_code == 400
    page = await send(ada, action="approve", back="//evil.example/")
    assert page.url.host == "test"


async def test_auditors_see_and_change_nothing(
    client: httpx.AsyncClient, administrator: User, member: User
) -> None:
    [id_] = await waiting(1)
    await User.create_user("vera@example.com", PASSWORD, is_auditor=True, is_approved=True)
    await Session.create_session(member.id)
    await enter(client, "vera@example.com")
    for path in ("/people", "/people?group=active", f"/people/{member.id}"):
        page = await client.get(path)
        assert page.status_code == 200
        assert "checkbox" not in page.text
        assert not re.findall(r"<button(?! class=\"link\">Sign out)[^>]*>(?!Search)", page.text)
        assert "Unknown device" not in page.text
    for path in ("decide", f"{id_}/sessions/end", f"{id_}/password", f"{id_}/rights"):
        answer = await send(client, f"/people/{path}", action="approve", id=id_)
        assert answer.status_code == 403, path
    assert await states(id_) == [(False, False)]


async def test_members_strangers_and_forgers_are_refused(
    app: Starlette, client: httpx.AsyncClient, administrator: User, member: User
) -> None:
    [id_] = await waiting(1)
    for path in ("/people", f"/people/{id_}"):
        assert (await client.get(path)).status_code == 303
    await enter(client, member.email)
    for path in ("/people", f"/people/{id_}"):
        assert (await client.get(path)).status_code == 403
    assert (await send(client, action="approve", id=id_)).status_code == 403
    async with browser(app) as forger:
        await enter(forger, administrator.email)
        for token in ({}, {"csrf_token": "forged"}):
            answer = await forger.post(
                "/people/decide", data={"action": "approve", "id": id_, **token}
            )
            assert answer.status_code == 403
    assert await states(id_) == [(False, False)]


async def test_an_administrator_who_was_demoted_meanwhile_decides_nothing(
    ada: httpx.AsyncClient, db: Engine
) -> None:
    by, ids = await olga(), await waiting(2)
    await User.update({User.is_admin: False}).where(User.id == by.id)
    outcome = await decide(db, by.id, DECISIONS["approve"], ids, Filter(ALL))
    assert {each.reason for each in outcome.refusals} == {"no_administrator"}
    assert await states(*ids) == [(False, False)] * 2


async def test_two_administrators_at_once_decide_about_each_person_once(
    administrator: User, db: Engine
) -> None:
    by, ids = await olga(), await waiting(30)
    expected = Filter(WAITING)
    outcomes = await asyncio.gather(
        decide(db, administrator.id, DECISIONS["approve"], ids, expected),
        decide(db, by.id, DECISIONS["reject"], ids[::-1], expected),
        decide(db, by.id, DECISIONS["reject"], expected, expected),
    )
    assert sum(each.done for each in outcomes) == 30
    found = await states(*ids)
    assert found.count((True, False)) == outcomes[0].done
    assert found.count((False, True)) == outcomes[1].done + outcomes[2].done


async def test_who_left_the_directory_is_a_group(
    ada: httpx.AsyncClient, member: User, db: Engine
) -> None:
    sql = "INSERT INTO directory_people (user_id, left_at) VALUES ($1, now())"
    await db.execute(sql, member.id)
    page = await ada.get("/people?group=left")
    assert re.search(r"Left the directory 1\b", text(page))
    assert re.findall(r'name="id" value="(\d+)"', page.text) == [str(member.id)]


# One person ------------------------------------------------------------------------------------


async def test_a_person_in_words(ada: httpx.AsyncClient, member: User) -> None:
    [id_] = await waiting(1)
    assert "Waits for approval since 20" in text(await ada.get(f"/people/{id_}"))
    await send(ada, action="approve", group="waiting", id=id_)
    page = text(await ada.get(f"/people/{id_}"))
    assert re.search(r"Approved on 20\S+ by ada@example.com\.", page)
    assert "The account was approved by ada@example.com" in page
    await send(ada, action="disable", group="active", id=id_, confirmed="yes")
    page = text(await ada.get(f"/people/{id_}"))
    assert re.search(r"Disabled on 20\S+ by ada@example.com\.", page)
    [me] = await User.select(User.id).where(User.email == "ada@example.com")
    mine = await ada.get(f"/people/{me['id']}")
    assert "ada@example.com disabled w0@example.com (Wim w0) · is_disabled no → yes" in text(mine)
    assert f'href="/people/{id_}"' in mine.text
    assert "Signed in" in text(mine)
    assert "You " not in text(mine)
    for missing in (4711, 10**30):
        assert (await ada.get(f"/people/{missing}")).status_code == 404


async def test_who_the_directory_disabled_is_told_so(ada: httpx.AsyncClient, member: User) -> None:
    with acting_as(Actor("sync:directory")):
        await User.update({User.is_disabled: True}).where(User.id == member.id)
    page = text(await ada.get(f"/people/{member.id}"))
    assert re.search(r"Disabled on 20\S+ by the directory\.", page)


async def test_a_rejected_person_is_approved_after_all(ada: httpx.AsyncClient) -> None:
    [id_] = await waiting(1)
    await send(ada, action="reject", group="waiting", id=id_, confirmed="yes")
    assert re.search(r"Rejected on 20\S+ by ada@", text(await ada.get(f"/people/{id_}")))
    back = f"/people/{id_}"
    page = await send(ada, action="approve", group="disabled", id=id_, back=back)
    assert (page.url.path, "Approved w0@example.com." in page.text) == (back, True)


async def test_one_session_ends_if_it_is_theirs(
    client: httpx.AsyncClient, administrator: User, member: User
) -> None:
    by = await olga()
    await enter(client, by.email)
    first = await Session.create_session(member.id)
    second = await Session.create_session(member.id)
    above = await Session.create_session(administrator.id)
    page = await send(client, f"/people/{member.id}/sessions/end", session=first.sid)
    assert "The session has ended." in page.text
    for id_, sid in (
        (member.id, first.sid), (member.id, above.sid), (administrator.id, above.sid), (4711, "x"),
    ):  # fmt: skip
        page = await send(client, f"/people/{id_}/sessions/end", session=sid)
        assert "The session has ended." not in page.text
    left = {row["sid"] for row in await Session.select().where(Session.user_id != by.id)}
    assert left == {second.sid, above.sid}


async def test_a_new_password_is_shown_once(ada: httpx.AsyncClient, member: User) -> None:
    await Session.create_session(member.id)
    page = await send(ada, f"/people/{member.id}/password")
    found = re.search(r"shown only now: <code>([\w-]+)</code>", page.text)
    assert found is not None
    assert await User.login(member.email, found[1]) == member.id
    assert found[1] not in (await ada.get(f"/people/{member.id}")).text
    assert found[1] not in repr(ada.cookies)
    assert not await Session.exists().where(Session.user_id == member.id)
    [me] = await User.select(User.id).where(User.email == "ada@example.com")
    page = await send(ada, f"/people/{me['id']}/password")
    assert "with the old one" in page.text


async def test_a_second_factor_is_removed(ada: httpx.AsyncClient, member: User) -> None:
    path = f"/people/{member.id}/second-factor/remove"
    assert "There is no second factor." in (await send(ada, path)).text
    await AuthenticatorSecret(user_id=member.id, secret="x", recovery_codes=[]).save()
    assert "Remove the second factor" in (await ada.get(f"/people/{member.id}")).text
    assert "The password alone signs in now." in (await send(ada, path)).text
    assert not await AuthenticatorSecret.exists()


async def test_who_removes_a_second_factor_stays_a_superuser_meanwhile(
    administrator: User, member: User, db: Engine, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was checked is true until the factor is gone."""
    demote = "UPDATE users SET is_superuser = false, is_admin = false WHERE id = $1"
    await User.create_user("sue@example.com", PASSWORD, is_superuser=True, is_approved=True)
    other = await asyncpg.connect(url, statement_cache_size=0)

    async def removed(*_: object) -> bool:
        async with other.transaction():
            await other.execute("SET LOCAL lock_timeout = '100ms'")
            with pytest.raises(asyncpg.LockNotAvailableError):
                await other.execute(demote, administrator.id)
            raise Refused("seen")

    monkeypatch.setattr(authenticator, "remove", removed)
    with pytest.raises(Refused, match="seen"):
        await rights.remove_second_factor(db, administrator.id, member.id)
    await other.execute(demote, administrator.id)
    await other.close()


async def test_superusers_change_rights(
    ada: httpx.AsyncClient, administrator: User, member: User
) -> None:
    path = f"/people/{member.id}/rights"
    page = await send(ada, path, is_superuser="yes")
    assert "The rights are changed." in page.text
    row = await User.select().where(User.id == member.id).first()
    assert row is not None
    assert (row["is_admin"], row["is_superuser"], row["is_auditor"]) == (True, True, False)
    stale = await send(ada, path, is_auditor="yes")  # of a page on which nothing was ticked
    assert "Somebody else changed these rights meanwhile." in stale.text
    page = await send(ada, path, had_is_admin="yes", had_is_superuser="yes")
    assert "The rights are changed." in page.text
    own = f"/people/{administrator.id}/rights"
    had = {"had_is_admin": "yes", "had_is_superuser": "yes"}
    for fields, sentence in (
        ({"is_auditor": "yes", "is_superuser": "yes"}, "Nobody makes themselves an auditor."),
        ({}, "Another superuser takes this right from you."),
    ):
        assert sentence in (await send(ada, own, **had, **fields)).text


async def test_administrators_change_no_rights(client: httpx.AsyncClient, member: User) -> None:
    by = await olga()
    await enter(client, by.email)
    page = await client.get(f"/people/{member.id}")
    assert "Change rights" not in page.text
    for path in ("rights", "password", "second-factor/remove"):
        answer = await send(client, f"/people/{member.id}/{path}", is_admin="yes")
        assert answer.status_code == 403


async def test_the_overview_leads_to_those_it_counts(ada: httpx.AsyncClient, member: User) -> None:
    await waiting(3)
    await User.update({User.is_disabled: True}).where(User.id == member.id)
    page = (await ada.get("/")).text
    for label, group, number in (
        ("awaiting approval", "waiting", 3), ("disabled", "disabled", 1), ("accounts", "all", 5),
    ):  # fmt: skip
        assert f'<a href="/people?group={group}" aria-label="{label}: {number}">' in page
        listed = await ada.get(f"/people?group={group}")
        assert len(re.findall(r'name="id" value="\d+"', listed.text)) == number


async def test_a_superuser_erases_somebody_once_address_and_reason_are_typed(
    ada: httpx.AsyncClient, member: User, db: Engine
) -> None:
    path = f"/people/{member.id}/erase"
    assert f'href="{path}"' in (await ada.get(f"/people/{member.id}")).text
    shown = text(await ada.get(path))
    assert "The account of mel@example.com goes" in shown
    wrong = await send(ada, path, email="mal@example.com", reason="asked")
    assert (wrong.status_code, "not the address of this account" in wrong.text) == (422, True)
    missing = await send(ada, path, email="mel@example.com", reason=" ")
    assert (missing.status_code, "reason is missing" in missing.text) == (422, True)
    assert await User.count().where(User.id == member.id) == 1
    done = await send(ada, path, email="Mel@example.com", reason="asked for it")
    assert "Erased. The trail calls them erased-" in text(done)
    assert await User.count().where(User.id == member.id) == 0
    assert await db.fetchval("SELECT count(*) FROM audit_logs l WHERE l::text LIKE '%mel@ex%'") == 0
    [removal] = await db.fetch("SELECT actor, reason FROM audit_removals")
    assert tuple(removal) == ("ada@example.com", "asked for it")


async def test_nobody_erases_themselves(ada: httpx.AsyncClient, administrator: User) -> None:
    yourself = f"/people/{administrator.id}/erase"
    assert "Nobody erases themselves" in text(await ada.get(yourself, follow_redirects=True))
    fields = {"email": administrator.email, "reason": "x"}
    assert "Nobody erases themselves" in text(await send(ada, yourself, **fields))
    assert await User.count().where(User.id == administrator.id) == 1
