"""Accounts follow the directory: who is created, changed and disabled, and who never."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import asyncpg
import pytest

from audit.tables import AuditLog
from home.database.engine import Engine
from home.tables import Session, User
from sync_history.directory.tables import DirectoryChange, DirectoryPerson
from sync_history.sources import SyncFailed
from tests.conftest import PASSWORD
from tests.sync_history.conftest import run_of
from tests.sync_history.directory.directories import (
    ADA,
    BEA,
    CY,
    Report,
    run_directory,
    set_directory,
    sync,
    write_json,
)

pytestmark = pytest.mark.any_version

EVE = {"email": "eve@example.com"}


@pytest.fixture(autouse=True)
def nothing_set(db: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(db, "settings", db.settings)  # and back again afterwards


async def account(email: str) -> dict[str, Any]:
    row = await User.select().where(User.email == email).first()
    assert row is not None, email
    return row


async def enabled() -> list[str]:
    rows = await User.select(User.email).where(User.is_disabled.eq(False)).order_by(User.email)
    return [row["email"].partition("@")[0] for row in rows]


async def changes() -> list[tuple[str, str]]:
    rows = await AuditLog.select(AuditLog.actor, AuditLog.action).order_by(AuditLog.id)
    return [(row["actor"], row["action"]) for row in rows]


async def test_new_people_get_approved_accounts_that_no_password_opens(
    db: Engine, tmp_path: Path
) -> None:
    report = await sync(tmp_path, {**ADA, "clerk_id": "c1", "email": " Ada@Example.COM "}, BEA)
    assert (report.items, report.done, report.failures) == (2, 2, {})
    ada = await account("ada@example.com")
    assert (ada["display_name"], ada["organization"], ada["clerk_id"]) == ("Ada", "Engines", "c1")
    assert (ada["is_approved"], ada["is_disabled"], ada["is_admin"]) == (True, False, False)
    assert ada["approved_at"] is not None
    assert ada["password_hash"] == ""
    assert await User.login("ada@example.com", "") is None
    assert (await changes())[:2] == [("sync:directory", "users.insert")] * 2
    assert await DirectoryChange.count() == 0


async def test_a_second_run_changes_nothing(db: Engine, tmp_path: Path) -> None:
    await sync(tmp_path, ADA, BEA)
    before = await User.select().order_by(User.id), await changes()
    report = await run_directory()
    assert (await User.select().order_by(User.id), await changes()) == before
    assert (report.items, report.done, report.notes) == (2, 2, ["Nothing had to change."])


async def test_only_what_changed_is_changed_and_recorded(db: Engine, tmp_path: Path) -> None:
    await sync(tmp_path, ADA, BEA)
    report = await sync(tmp_path, {**ADA, "organization": "Bernoulli"}, BEA)
    assert report.notes == ["1 changed."]
    last = await AuditLog.select().order_by(AuditLog.id, ascending=False).first()
    assert last is not None
    assert (last["actor"], last["action"]) == ("sync:directory", "users.update")
    assert last["details"] == (
        '{"after": {"organization": "Bernoulli"}, "before": {"organization": "Engines"}}'
    )


async def test_what_the_directory_does_not_say_stays(db: Engine, tmp_path: Path) -> None:
    await sync(tmp_path, {**ADA, "clerk_id": "c1"})
    await sync(tmp_path, {"email": ADA["email"], "organization": "", "display_name": "Countess"})
    await sync(tmp_path, {"email": ADA["email"]})
    ada = await account("ada@example.com")
    said = (ada["display_name"], ada["organization"], ada["clerk_id"])
    assert said == ("Countess", "Engines", "c1")


async def test_who_left_is_disabled_and_signed_out_and_who_comes_back_is_enabled(
    db: Engine, tmp_path: Path
) -> None:
    await sync(tmp_path, ADA, BEA)
    bea = await account("bea@example.com")
    await Session.create_session(bea["id"])
    report = await sync(tmp_path, ADA)
    assert (report.items, report.done, report.notes) == (2, 2, ["1 left and disabled."])
    assert await enabled() == ["ada"]
    assert await Session.count() == 0
    again = await run_directory()
    assert again.notes == ["Nothing had to change."]
    report = await sync(tmp_path, ADA, {**BEA, "display_name": "Beatrice"})
    assert report.notes == ["1 taken back."]
    assert await enabled() == ["ada", "bea"]
    assert (await account("bea@example.com"))["display_name"] == "Beatrice"


async def test_a_person_marked_as_disabled_has_left(db: Engine, tmp_path: Path) -> None:
    await sync(tmp_path, ADA, BEA)
    gone: list[dict[str, object]] = [{**BEA, "is_disabled": True}, {**CY, "is_disabled": "yes"}]
    report = await sync(tmp_path, ADA, *gone)
    assert (report.items, report.done) == (3, 3)
    assert await enabled() == ["ada"]
    assert await User.count() == 2


async def test_accounts_that_the_directory_never_listed_are_left_alone(
    db: Engine, administrator: User, member: User, tmp_path: Path
) -> None:
    await sync(tmp_path, BEA, CY)
    await sync(tmp_path, CY)
    assert await enabled() == ["ada", "cy", "mel"]


async def test_an_account_made_by_hand_is_looked_after_once_it_is_listed(
    db: Engine, administrator: User, member: User, tmp_path: Path
) -> None:
    mel = {"email": "mel@example.com", "display_name": "Mel"}
    report = await sync(tmp_path, mel, CY)
    assert report.notes == ["1 created; 1 changed."]
    assert (await account("mel@example.com"))["password_hash"] != ""
    await sync(tmp_path, CY)
    assert await enabled() == ["ada", "cy"]


async def test_an_account_that_fits_already_is_looked_after_without_a_change(
    db: Engine, administrator: User, member: User, tmp_path: Path
) -> None:
    before = await changes()
    report = await sync(tmp_path, {"email": "mel@example.com"})
    assert report.notes == ["1 looked after from now on, who had an account already."]
    assert await changes() == before
    assert await DirectoryPerson.count() == 1


async def test_who_was_disabled_by_hand_stays_so(db: Engine, tmp_path: Path) -> None:
    await sync(tmp_path, ADA, BEA, CY)
    await User.update({User.is_disabled: True}).where(User.email == "bea@example.com")
    await run_directory()
    await sync(tmp_path, ADA)  # Bea and Cy leave,
    await sync(tmp_path, ADA, BEA, CY)  # and come back
    assert await enabled() == ["ada", "cy"]


async def test_who_was_enabled_by_hand_after_leaving_stays_so(db: Engine, tmp_path: Path) -> None:
    await sync(tmp_path, ADA, BEA)
    await sync(tmp_path, ADA)
    bea = User.email == "bea@example.com"
    await User.update({User.is_disabled: False}).where(bea)
    await run_directory()
    assert await enabled() == ["ada", "bea"]
    await User.update({User.is_disabled: True}).where(bea)  # and then by hand
    await sync(tmp_path, ADA, BEA)
    assert await enabled() == ["ada"]


async def test_an_account_that_awaits_approval_is_not_approved_by_being_listed(
    db: Engine, tmp_path: Path
) -> None:
    """Else whoever registers somebody else's address first would get in with it."""
    await User.create_user("bea@example.com", PASSWORD)
    report = await sync(tmp_path, ADA, {**BEA, "clerk_id": "c2"})
    assert "is not approved" in report.failures["item 2"]
    bea = await account("bea@example.com")
    assert (bea["is_approved"], bea["display_name"], bea["clerk_id"]) == (False, None, None)
    assert (report.items, report.done) == (2, 1)


async def test_an_address_changes_where_the_clerk_id_stays(db: Engine, tmp_path: Path) -> None:
    await sync(tmp_path, {**ADA, "clerk_id": "c1"}, BEA)
    report = await sync(tmp_path, {**ADA, "clerk_id": "c1", "email": "lovelace@example.com"}, BEA)
    assert report.notes == ["1 changed."]
    assert await enabled() == ["bea", "lovelace"]


async def test_an_administrator_keeps_address_and_identity(
    db: Engine, administrator: User, tmp_path: Path
) -> None:
    """Else who writes the directory could become one."""
    await sync(tmp_path, {**ADA, "clerk_id": "mallory"})
    ada = await account("ada@example.com")
    assert (ada["display_name"], ada["clerk_id"]) == ("Ada", None)
    await User.update({User.clerk_id: "c1"}).where(User.id == administrator.id)
    report = await sync(tmp_path, {**ADA, "clerk_id": "c1", "email": "mallory@example.com"})
    assert "only a person changes" in report.failures["item 1"]
    assert await enabled() == ["ada"]


async def test_an_auditor_keeps_address_and_identity(
    db: Engine, member: User, tmp_path: Path
) -> None:
    await User.update({User.clerk_id: "c1", User.is_auditor: True}).where(User.id == member.id)
    line = {"clerk_id": "c1", "email": "mallory@example.com", "display_name": "M"}
    report = await sync(tmp_path, line)
    assert "only a person changes" in report.failures["item 1"]
    assert await enabled() == ["mel"]


@pytest.mark.parametrize(
    ("before", "after", "problem"),
    [
        ([], [ADA, {**ADA, "display_name": "Second"}], "has the e-mail address of item 1"),
        ([], [ADA, {**ADA, "email": "ADA@example.com"}], "has the e-mail address of item 1"),
        ([], [{**ADA, "clerk_id": "c"}, {**BEA, "clerk_id": "c"}], "has the clerk_id of item 1"),
        (
            [{**ADA, "clerk_id": "c"}],
            [{**BEA, "clerk_id": "c"}, ADA],
            "means the same account as item 1",
        ),
        (
            [{**ADA, "clerk_id": "c"}, BEA],
            [CY, {**BEA, "clerk_id": "c"}],
            "belongs by clerk_id and by e-mail address to two accounts",
        ),
        (
            [{**ADA, "clerk_id": "c"}],
            [CY, {**ADA, "clerk_id": "d"}],
            "has an account with another clerk_id",
        ),
        ([ADA, BEA], [ADA, {**BEA, "organization": "x" * 256}], "organization is longer than 255"),
    ],
)
async def test_a_line_that_contradicts_others_fails_alone_and_disables_nobody(
    db: Engine, tmp_path: Path, before: list[Any], after: list[Any], problem: str
) -> None:
    if before:
        await sync(tmp_path, *before)
    known = await enabled()
    report = await sync(tmp_path, *after)
    assert list(report.failures) == ["item 2"]
    assert problem in report.failures["item 2"]
    assert (report.items, report.done) == (2, 1)
    assert len(await enabled()) >= len(known)


async def test_the_last_superuser_stays(db: Engine, administrator: User, tmp_path: Path) -> None:
    second = await User.create_user(
        "bea@example.com", "a password of bea's", is_superuser=True, is_approved=True
    )
    await sync(tmp_path, ADA, BEA, CY)
    report = await sync(tmp_path, CY, force=True)
    assert len(report.failures) == 1
    assert "last active superuser" in report.failures["ada@example.com"]
    assert (report.items, report.done) == (3, 2)
    assert await enabled() == ["ada", "cy"]
    await User.update({User.is_disabled: False}).where(User.id == second.id)
    await run_directory()
    assert await enabled() == ["bea", "cy"]


async def test_too_many_leave_at_once_only_by_force(db: Engine, tmp_path: Path) -> None:
    people = [{"email": f"p{n}@example.com"} for n in range(10)]
    await sync(tmp_path, *people)
    before = await changes()
    set_directory(write_json(tmp_path / "people.json", *people[:7], EVE), directory_max_disable=20)
    with pytest.raises(SyncFailed, match=r"^3 of 10 people .* 20 % .* Nothing was changed"):
        await run_directory()
    dry = Report(dry_run=True)
    with pytest.raises(SyncFailed, match="3 of 10"):
        await run_directory(dry)
    assert dry.notes[-1] == "Would disable 3: p7@example.com, p8@example.com, p9@example.com"
    assert await changes() == before
    await run_directory(Report(force=True))
    assert len(await enabled()) == 8


async def test_as_many_as_allowed_may_leave(db: Engine, tmp_path: Path) -> None:
    people = [{"email": f"p{n}@example.com"} for n in range(10)]
    await sync(tmp_path, *people)
    set_directory(write_json(tmp_path / "people.json", *people[:8]), directory_max_disable=20)
    await run_directory()
    assert len(await enabled()) == 8


async def test_nobody_is_disabled_while_a_line_may_be_about_them(
    db: Engine, tmp_path: Path
) -> None:
    await sync(tmp_path, ADA, BEA, CY)
    broken = {**BEA, "email": "bea.example.com"}
    report = await sync(tmp_path, ADA, broken, EVE)
    assert await enabled() == ["ada", "bea", "cy", "eve"]
    assert report.notes[0].startswith("2 people are missing from the directory. They keep")
    assert (report.items, report.done, len(report.failures)) == (5, 2, 1)
    await sync(tmp_path, ADA, broken, EVE, force=True)
    assert await enabled() == ["ada", "eve"]


async def test_a_dry_run_says_what_it_would_do_and_does_nothing(db: Engine, tmp_path: Path) -> None:
    await sync(tmp_path, ADA, BEA)
    before = await User.select().order_by(User.id), await changes()
    report = await sync(tmp_path, {**ADA, "display_name": "Countess"}, CY, {}, dry_run=True)
    assert (await User.select().order_by(User.id), await changes()) == before
    assert await DirectoryChange.count() == 0
    assert report.failures == {"item 3": "has no e-mail address"}
    assert report.notes[-2:] == [
        "Would create 1: cy@example.com",
        "Would change 1: ada@example.com",
    ]
    report = await sync(tmp_path, *({"email": f"p{n}@x.com"} for n in range(12)), dry_run=True)
    assert report.notes[0].startswith("Would create 12: p0@x.com, p1@x.com")
    assert report.notes[0].endswith("p9@x.com and 2 more")
    assert report.notes[1] == "Would disable 2: ada@example.com, bea@example.com"
    assert report.done == 0


async def test_one_broken_line_of_a_dry_run_is_not_all_of_it(db: Engine, tmp_path: Path) -> None:
    set_directory(write_json(tmp_path / "people.json", ADA, BEA, {}))
    run = await run_of("directory", dry_run=True)
    assert (run.status, run.items_total, run.items_failed) == ("partial", 3, 1)
    assert run.error_message == "1 of 3 items failed, see the error details."


async def test_an_account_made_in_the_meantime_is_not_taken_over(
    db: Engine, url: str, tmp_path: Path
) -> None:
    other = await asyncpg.connect(url)
    report = Report()
    # The plan is committed before the accounts are made: that is when somebody else registers.
    await other.execute(
        "CREATE FUNCTION register() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " INSERT INTO users (email) VALUES ('bea@example.com'); RETURN NULL; END $$;"
        "CREATE TRIGGER register AFTER DELETE ON directory_files"
        " FOR EACH STATEMENT EXECUTE FUNCTION register()"
    )
    await other.close()
    set_directory(write_json(tmp_path / "people.json", ADA, BEA))
    await run_directory(report)
    assert report.failures == {"item 2": "somebody else made this account just now"}
    assert (report.items, report.done, report.notes) == (2, 1, ["1 created."])
    assert (await account("bea@example.com"))["is_approved"] is False


async def test_without_an_address_it_says_so(db: Engine) -> None:
    set_directory(None)
    with pytest.raises(SyncFailed, match="DIRECTORY_URL is not set"):
        await run_directory()
