"""A person can be erased, and the trail still verifies."""

from __future__ import annotations

import json
from hashlib import sha256
from typing import Any

import asyncpg
import pytest

from audit.context import Actor, acting_as
from audit.digests import WHAT, WHO, SealKeys
from audit.erase import NobodyToErase, erase, pseudonym_of, would_erase
from audit.known_person import Eraser, Known, parts_of, rows_of
from audit.record import record
from audit.removals import ALLOW, NOW, Removal, packed, store
from audit.seals import OtherKey, seal
from audit.tables import AuditLog, AuditRemoval
from audit.verify import verify
from home.accounts.erasing import AccountEraser
from home.database.engine import Engine
from home.outbox.tables import Message
from home.tables import User, UserPreference
from sync_history.erasing import RunEraser
from sync_history.tables import SyncRun
from tests.audit.trails import KEYS, tamper

ERASERS: list[Eraser] = [AccountEraser(), RunEraser()]
ADA, IP = "ada.lovelace@example.com", "203.0.113.77"
SECRETS = [ADA, "Ada Lovelace", "clerk_ada_1815", IP, "ada.byron@example.com"]
DUMP = """
    SELECT table_name AS name FROM information_schema.tables
    WHERE table_schema = 'public' AND table_type = 'BASE TABLE'
"""


async def life_of_ada(db: Engine) -> tuple[int, int]:
    """Make an account, and let it do this and that; return its number, and another's."""
    with acting_as(Actor("anonymous", ip_address=IP)):
        ada = await User.store(
            "ada.byron@example.com", "x", display_name="Ada Lovelace", clerk_id="clerk_ada_1815"
        )
    other = await User.store("bob@example.com", "x", display_name="Bob")
    with acting_as(Actor("root@example.com", request_id="r1")):
        await User.update({User.is_approved: True}).where(User.id == ada.id)
        await User.update({User.email: ADA}).where(User.id == ada.id)
    with acting_as(Actor(ADA, ada.id, IP, "r2")):
        await UserPreference(user_id=ada.id, preferences=json.dumps({"dark": True})).save()
        await User.update({User.organization: "Bob's"}).where(User.id == other.id)
        await record(db, "report.sent", "reports", 7, {"to": ["bob@example.com", ADA.upper()]})
    with acting_as(Actor(f"{ADA} token:ci", ada.id, IP)):
        await record(db, "report.made", "reports", 8, {"pages": 3})
    with acting_as(Actor("anonymous", ip_address=IP)):
        await record(db, "sign_in.failed", "sign_in", ADA, {"network": IP})
    await record(db, "report.made", "reports", 9, {"by": f"n{ADA}", "name": "Ada Lovelace II"})
    run = SyncRun(source="crm", status="running")
    await run.save()
    await db.execute(
        "UPDATE sync_history SET status = 'failed', error_message = $1,"
        " error_details = jsonb_build_array($1::text) WHERE id = $2",
        f"line 3: {ADA} is twice", run.id,
    )  # fmt: skip
    await Message(channel="mail", recipient=ADA, kind="k", content="{}").save()
    return ada.id, other.id


async def dump(db: Engine) -> str:
    """All that is in the database, as text."""
    found = []
    for table in await db.fetch(DUMP):
        rows = await db.fetch(f'SELECT t::text AS row FROM "{table["name"]}" AS t')
        found += [row["row"] for row in rows]
    return "\n".join(found)


async def test_nothing_of_a_person_is_left_and_all_verifies(db: Engine) -> None:
    ada, other = await life_of_ada(db)
    await seal(db, KEYS)
    with acting_as(Actor(ADA, ada, IP)):
        await record(db, "report.made", "reports", 10, {"pages": 4})  # is not sealed
    before = await dump(db)
    assert all(secret in before for secret in SECRETS)
    with acting_as(Actor("cli:root")):
        planned = await would_erase(db, ERASERS, ada)
        assert planned.names == ["ada.byron@example.com", ADA]
        assert planned.tables["user_preferences"] == planned.tables["outbox"] == 1
        assert await dump(db) == before, "a look changes nothing"
        done = await erase(db, KEYS, ERASERS, ada, "asked for it")
    assert done.rows > planned.rows, "with what the trail said of erasing"
    after = (await dump(db)).replace(f"n{ADA}", "").replace("Ada Lovelace II", "")
    assert [secret for secret in SECRETS if secret.lower() in after.lower()] == []
    assert pseudonym_of(ada) == done.pseudonym in after
    report = await verify(db, KEYS)
    assert (report.problem, report.unsealed) == (None, done.rows - report.erased + 1)
    assert (await seal(db, KEYS)).rows == report.unsealed
    report = await verify(db, KEYS)
    assert (report.problem, report.erased, report.unsealed) == (None, done.rows, 0)
    [removal] = await AuditRemoval.select()
    assert (removal["actor"], removal["reason"]) == ("cli:root", "asked for it")
    assert removal["row_count"] == done.rows
    await nothing_else_is_lost(db, done.pseudonym, other)


async def nothing_else_is_lost(db: Engine, pseudonym: str, other: int) -> None:
    """What they did to others can be read, and what others did to them, but for what it was."""
    row: Any
    [row] = await AuditLog.select().where(
        AuditLog.resource_id == str(other), AuditLog.action == "users.update"
    )
    assert (row["actor"], row["user_id"], row["ip_address"]) == (pseudonym, None, None)
    assert json.loads(row["details"])["after"] == {"organization": "Bob's"}
    [row] = (
        await AuditLog.select().where(AuditLog.request_id == "r1").order_by(AuditLog.id).limit(1)
    )
    assert (row["actor"], row["action"]) == ("root@example.com", "users.update")
    assert (row["resource_id"], row["details"]) == (pseudonym, None)
    [row] = await AuditLog.select().where(AuditLog.action == "report.sent")
    assert (row["actor"], row["resource_id"], row["details"]) == (pseudonym, pseudonym, None)
    [row] = await AuditLog.select().where(AuditLog.resource_id == "9")
    assert "Ada Lovelace II" in row["details"], "another person's name"
    [row] = await AuditLog.select().where(AuditLog.action == "audit.erase")
    assert (row["actor"], row["resource_id"]) == ("cli:root", pseudonym)


async def test_an_account_that_was_deleted_before_can_be_erased(db: Engine) -> None:
    ada, _ = await life_of_ada(db)
    await seal(db, KEYS)
    await User.delete().where(User.id == ada)
    await erase(db, KEYS, ERASERS, ada, "asked for it")
    after = (await dump(db)).replace(f"n{ADA}", "").replace("Ada Lovelace II", "")
    assert [secret for secret in SECRETS if secret.lower() in after.lower()] == []
    assert (await verify(db, KEYS)).problem is None


async def test_twice_is_not_more(db: Engine) -> None:
    ada, _ = await life_of_ada(db)
    await erase(db, KEYS, ERASERS, ada, "asked for it")
    with pytest.raises(NobodyToErase):
        await erase(db, KEYS, ERASERS, ada, "asked for it")
    with pytest.raises(NobodyToErase):
        await would_erase(db, ERASERS, 4711)
    await seal(db, KEYS)
    assert (await verify(db, KEYS)).problem is None


async def test_two_people_of_one_row_are_erased_one_after_the_other(db: Engine) -> None:
    ada, other = await life_of_ada(db)
    await seal(db, KEYS)
    await erase(db, KEYS, ERASERS, ada, "asked for it")
    assert (await verify(db, KEYS)).problem is None
    await erase(db, KEYS, ERASERS, other, "asked for it, too")
    rows = await AuditLog.select().where(AuditLog.resource_id == pseudonym_of(other))
    [row] = [row for row in rows if row["actor"] == pseudonym_of(ada)]
    assert (row["action"], row["salt"], row["details"]) == ("users.update", None, None)
    assert (await verify(db, KEYS)).problem is None
    await seal(db, KEYS)
    assert (await verify(db, KEYS)).problem is None


TAMPERINGS = {
    "UPDATE audit_logs SET actor = 'eve' WHERE id = {who}": "refilled",
    "UPDATE audit_logs SET ip_address = '10.0.0.1' WHERE id = {who}": "refilled",
    "UPDATE audit_logs SET details = '{{}}' WHERE id = {what}": "refilled",
    "UPDATE audit_logs SET resource_id = '1' WHERE id = {what}": "refilled",
    "UPDATE audit_logs SET what_digest = sha256('') WHERE id = {what}": "altered",
    "UPDATE audit_logs SET salt = sha256('') WHERE id = {who}": "altered",
    "UPDATE audit_logs SET salt = '\\x00' WHERE id = {who}": "altered",
    "UPDATE audit_logs SET action = 'x' WHERE id = {who}": "altered",
    "UPDATE audit_logs SET what_digest = who_digest WHERE id = {who}": "altered",
    "DELETE FROM audit_removals": "erased_unsigned",
    "UPDATE audit_removals SET reason = 'x'": "removal_altered",
    "UPDATE audit_removals SET pseudonym = 'x'": "removal_altered",
    "UPDATE audit_removals SET rows = rows || rows": "removal_altered",
    "UPDATE audit_removals SET digest = repeat('0', 64)": "removal_altered",
    "UPDATE audit_removals SET key_id = NULL": "removal_altered",
    "UPDATE audit_removals SET kind = 'prune', first_seal = 1, last_seal = 1": "removal_altered",
    "INSERT INTO audit_removals (kind, first_id, last_id, row_count, first_seal, last_seal,"
    " rows_digest, actor, digest) SELECT 'prune', 1, 9, 9, 1, 1, digest, 'x', repeat('0', 64)"
    " FROM audit_seals": "removal_altered",
    "UPDATE audit_logs SET salt = NULL, actor = 'erased-x', who_digest = sha256(''),"
    " what_digest = sha256('') WHERE id = {other}": "altered",
}


async def test_what_is_done_to_erased_rows_and_their_records_is_named(db: Engine) -> None:
    ada, other = await life_of_ada(db)
    await seal(db, KEYS)
    await erase(db, KEYS, ERASERS, ada, "asked for it")
    who = await db.fetchval(
        "SELECT id FROM audit_logs WHERE who_digest IS NOT NULL AND what_digest IS NULL LIMIT 1"
    )
    what = await db.fetchval(
        "SELECT id FROM audit_logs WHERE what_digest IS NOT NULL AND who_digest IS NULL LIMIT 1"
    )
    keep = "CREATE TABLE {0}_kept AS TABLE {0}"
    restore = "TRUNCATE {0}; INSERT INTO {0} SELECT * FROM {0}_kept"
    tables = ("audit_logs", "audit_removals")
    await tamper(db, ";".join(keep.format(table) for table in tables))
    found = {}
    for sql in TAMPERINGS:
        await tamper(db, sql.format(who=who, what=what, other=other))
        problem = (await verify(db, KEYS)).problem
        found[sql] = problem.kind if problem else None
        await tamper(db, ";".join(restore.format(table) for table in tables))
    assert found == TAMPERINGS
    assert (await verify(db, KEYS)).problem is None


async def erase_by_hand(db: Engine, keys: SealKeys | None) -> int:
    """Put right commitments in the place of who did something; sign that with keys, or not."""
    [row] = await AuditLog.select().where(AuditLog.resource_id == "8")
    text = json.dumps([row["actor"], row["ip_address"], row["request_id"]], separators=(",", ":"))
    sql = """
        UPDATE audit_logs SET actor = 'erased-x', user_id = NULL, ip_address = NULL,
            who_digest = sha256(sha256('who'::bytea || salt) || convert_to($2, 'UTF8')),
            salt = sha256('what'::bytea || salt)
        WHERE id = $1
    """
    async with db.transaction():
        await db.fetchval(ALLOW)
        await db.execute(sql, row["id"], text)
        if keys is not None:
            entries = packed([(row["id"], WHO)])
            removal = Removal(
                "erase", row["id"], row["id"], 1, None, None, sha256(entries).hexdigest(),
                "erased-x", "eve", "because", await db.fetchval(NOW), keys.newest,
            )  # fmt: skip
            await store(db, keys, removal, entries)
    return int(row["id"])


async def test_an_erasure_that_nobody_signed_is_named(db: Engine) -> None:
    """With the owner's role and all values right, but without the key."""
    await life_of_ada(db)
    await seal(db, KEYS)
    row = await erase_by_hand(db, None)
    problem = (await verify(db, KEYS)).problem
    assert problem is not None
    assert (problem.kind, problem.row) == ("erased_unsigned", row)


async def test_so_is_one_without_a_key_where_seals_have_one(db: Engine) -> None:
    await life_of_ada(db)
    await seal(db, KEYS)
    await erase_by_hand(db, SealKeys(None))
    problem = (await verify(db, KEYS)).problem
    assert problem is not None
    assert problem.message == "removal 1 was not signed with a key, as seals before it were"
    await record(db, "thing.happened")
    assert (await seal(db, KEYS)).seals == 1
    problem = (await verify(db, KEYS)).problem
    assert problem is not None
    assert problem.message == "removal 1 was not signed with a key, as seals before it were"
    ada = await db.fetchval("SELECT id FROM users WHERE email = $1", ADA)
    with pytest.raises(OtherKey):
        await erase(db, SealKeys(None), ERASERS, ada, "without the key")


async def test_one_from_before_there_was_a_key_is_vouched_for_by_the_first_seal_with_one(
    db: Engine,
) -> None:
    nobody = SealKeys(None)
    await life_of_ada(db)
    await seal(db, nobody)
    await erase_by_hand(db, nobody)
    await record(db, "thing.happened")
    await seal(db, KEYS)
    assert (await verify(db, KEYS)).problem is None
    await tamper(db, "UPDATE audit_removals SET reason = 'x'")
    assert (await verify(db, KEYS)).problem is not None
    [forged] = await db.fetch("SELECT * FROM audit_removals")
    digest = Removal.of(forged).sign(nobody)
    await tamper(db, "UPDATE audit_removals SET digest = $1", digest)
    problem = (await verify(db, KEYS)).problem
    assert problem is not None
    assert "a removal from before seal 2 was altered" in problem.message
    await tamper(db, "DELETE FROM audit_removals")
    assert (await verify(db, KEYS)).problem is not None


async def test_whoever_is_not_the_owner_erases_nothing(db: Engine) -> None:
    await life_of_ada(db)
    before = await dump(db)
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await db.execute("UPDATE audit_logs SET actor = 'x', salt = NULL")
    assert await dump(db) == before


@pytest.mark.parametrize(
    ("details", "is_found"),
    [
        ({"to": "A_da+1@x.io"}, True),
        ({"to": "Ada <a_da+1@x.io>"}, True),
        ({"a_da+1@x.io": [1]}, True),
        ({"to": "na_da+1@x.io"}, False),
        ({"to": "a_da+1@x.iot"}, False),
        ({"to": "abda+1@x.io"}, False),
        ({"name": 'Ada "L" [1]\\ Lövelace'}, True),
        ({"name": 'Ada "L" [1]\\ Lövelace II'}, False),
        ({"name": "Al"}, False),
    ],
)
async def test_addresses_are_found_wherever_they_stand_and_names_as_values(
    db: Engine, details: dict[str, Any], is_found: bool
) -> None:
    await record(db, "thing.happened", details=details)
    known = Known({"a_da+1@x.io"}, {'Ada "L" [1]\\ Lövelace', "Al"})
    found = await rows_of(db, 1, known)
    assert found == ([(1, WHAT)] if is_found else [])


async def test_rows_are_found_in_the_archive_as_they_are_in_the_table(db: Engine) -> None:
    ada, other = await life_of_ada(db)
    known = await AccountEraser().known(db, ada, [])
    users: tuple[Any, ...] = ({"user_id": ada}, {"user_id": f"{ada}"}, {"user_id": other}, [], {})
    for details in ([ada], {"before": {"user_id": ada}}, *({"after": each} for each in users)):
        await record(db, "x.y", "user_preferences", 1, details)  # type: ignore[arg-type]
        await record(db, "x.y", "other_things", 1, details)  # type: ignore[arg-type]
    rows = await db.fetch(
        "SELECT id, user_id, actor, resource, resource_id, details::text AS details, who_digest,"
        " what_digest FROM audit_logs ORDER BY id"
    )
    found = [(row["id"], parts_of(row, ada, known)) for row in rows]
    assert [pair for pair in found if pair[1]] == await rows_of(db, ada, known)
    assert {parts for _, parts in found} == {0, WHO, WHAT, WHO | WHAT}
