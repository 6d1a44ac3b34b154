"""Whatever a superuser changes, with triggers disabled, is named."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from audit.digests import ROW, Leaf, Seal, SealKeys, pack, root_of
from audit.paging import select
from audit.seals import ROWS, seal
from audit.tables import AuditSeal
from audit.verify import verify
from home.database.engine import Engine
from tests.audit.trails import KEYS, fill, seal_three_times, tamper

pytestmark = pytest.mark.any_version

Expected = Mapping[str, tuple[str, int | None]]
KEEP = "CREATE TABLE {0}_kept AS TABLE {0}"
RESTORE = "TRUNCATE {0}; INSERT INTO {0} SELECT * FROM {0}_kept"
TABLES = ("audit_logs", "audit_seals")


# What somebody does after `seal_three_times`, and what is named.
SET = "UPDATE audit_logs SET {} WHERE id = {}"
ALTERED: dict[str, tuple[str, int | None]] = {
    SET.format(change, id_): ("altered", id_)
    for id_, change in (
        (1, "actor = 'somebody'"),
        (2, "actor = NULL"),
        (5, "action = 'users.insert'"),
        (10, "resource = 'user'"),
        (12, "resource_id = ''"),
        (13, "details = jsonb_set(details, '{after,n}', '\"13\"')"),
        (20, "details = NULL"),
        (22, "ip_address = '10.0.0.2'"),
        (23, "request_id = 'R23'"),
        (24, "is_admin_action = NOT is_admin_action"),
        (30, "created_at = created_at + interval '1 microsecond'"),
        (6, "salt = (SELECT salt FROM audit_logs WHERE id = 7)"),
        (7, "salt = NULL"),
        (8, "who_digest = sha256('')"),
        (9, "salt = sha256('what'::bytea || salt), who_digest = sha256('')"),
    )
}
ALTERED[SET.format("actor = 'x'", "23 OR id = 14")] = ("altered", 14)
DELETE = "DELETE FROM audit_logs WHERE id "
INSERT = "INSERT INTO audit_logs (id, action) VALUES ({}, 'forged')"
COPY = (
    "INSERT INTO audit_logs SELECT {}, user_id, actor, action, resource, resource_id, details,"
    " ip_address, request_id, is_admin_action, created_at, salt FROM audit_logs WHERE id = {}"
)
SWAP = (
    "UPDATE audit_logs SET id = CASE id WHEN {0} THEN -1 ELSE {0} END WHERE id IN ({0}, {1});"
    "UPDATE audit_logs SET id = {1} WHERE id = -1"
)
MOVED: Expected = {
    DELETE + "= 1": ("removed", 1),
    DELETE + "= 7": ("removed", 7),
    DELETE + "= 30": ("removed", 30),
    DELETE + "> 25": ("removed", 26),
    DELETE + "> 0": ("removed", 1),
    DELETE + "BETWEEN 12 AND 20": ("removed", 12),
    INSERT.format(11): ("inserted", 11),
    INSERT.format(21): ("inserted", 21),
    INSERT.format(0): ("inserted", 0),
    INSERT.format(-(2**63)): ("inserted", -(2**63)),
    INSERT.format(11) + ";" + DELETE + "= 15": ("inserted", 11),
    COPY.format(21, 25): ("inserted", 21),
    "INSERT INTO audit_logs (id, action) SELECT -n, 'flood' FROM generate_series(1, 30000) n": (
        "inserted",
        -30000,
    ),
    SWAP.format(5, 6): ("moved", 5),
    SWAP.format(13, 19): ("moved", 13),
    "UPDATE audit_logs SET id = 21 WHERE id = 24": ("moved", 21),
    "UPDATE audit_logs SET id = 0 WHERE id = 9": ("moved", 0),
    "UPDATE audit_logs SET id = 31 WHERE id = 30": ("removed", 30),
}
SEALS: dict[str, tuple[str, int | None]] = {
    f"UPDATE audit_seals SET {change} WHERE id = 2": ("seal_altered", 2)
    for change in (
        "first_id = first_id - 1",
        "last_id = last_id - 1",
        "row_count = row_count - 1",
        "root = repeat('0', 64)",
        "removal_count = 1",
        "removals_digest = repeat('0', 64)",
        "algorithm = 'sha256'",
        "key_id = NULL",
        "previous_digest = NULL",
        "digest = repeat('0', 64)",
        "created_at = created_at - interval '1 day'",
    )
}
SEALS |= {
    "DELETE FROM audit_seals WHERE id = 1": ("seal_removed", 1),
    "DELETE FROM audit_seals WHERE id = 2": ("seal_removed", 2),
    "DELETE FROM audit_seals": ("seal_removed", 1),
    "DELETE FROM audit_seals WHERE id = 3": ("seal_removed", 3),
    "DELETE FROM audit_logs WHERE id > 20; DELETE FROM audit_seals WHERE id > 2": (
        "seal_removed",
        3,
    ),
    "DELETE FROM audit_seals WHERE id = 2; UPDATE audit_seals SET id = 2 WHERE id = 3": (
        "seal_altered",
        2,
    ),
    "UPDATE audit_seals SET pruned_at = now() WHERE id = 1": ("pruned_unsigned", 1),
    "UPDATE audit_seals SET pruned_at = now() WHERE id = 2": ("pruned_unsigned", 2),
    "UPDATE audit_seals SET pruned_at = now(), leaves = NULL WHERE id = 1;"
    "DELETE FROM audit_logs WHERE id <= 10": ("pruned_unsigned", 1),
}
SET_LEAVES = "UPDATE audit_seals SET leaves = {} WHERE id = {}"
CHANGE = "UPDATE audit_logs SET actor = 'x' WHERE id = 5;"
LEAVES: Expected = {
    SET_LEAVES.format("set_byte(leaves, 9, 0)", 1): ("leaves_altered", 1),
    SET_LEAVES.format("NULL", 2): ("leaves_altered", 2),
    SET_LEAVES.format("leaves || leaves", 2): ("leaves_altered", 2),
    CHANGE + SET_LEAVES.format("NULL", 1): ("altered", 1),
    CHANGE + SET_LEAVES.format("'\\x00'", 1): ("altered", 1),
    "DELETE FROM audit_logs WHERE id > 21;" + SET_LEAVES.format("'\\x'", 3): ("altered", 3),
}


async def problems_after(db: Engine, changes: Expected, keys: SealKeys = KEYS) -> Expected:
    """Kind and row (or seal) of the first problem after each change alone."""
    found: dict[str, tuple[str, int | None]] = {}
    await tamper(db, ";".join(KEEP.format(table) for table in TABLES))
    for change in changes:
        await tamper(db, change)
        found[change] = ("nothing", None)
        if problem := (await verify(db, keys)).problem:
            found[change] = (problem.kind, problem.seal if problem.row is None else problem.row)
        await tamper(db, ";".join(RESTORE.format(table) for table in TABLES))
    assert (await verify(db, keys)).problem is None
    return found


async def test_rows_that_were_changed_are_named(db: Engine) -> None:
    await seal_three_times(db)
    assert await problems_after(db, ALTERED) == ALTERED


async def test_rows_that_are_gone_new_or_elsewhere_are_named(db: Engine) -> None:
    await seal_three_times(db)
    assert await problems_after(db, MOVED) == MOVED


async def test_equal_rows_are_not_mixed_up(db: Engine) -> None:
    same = "INSERT INTO audit_logs (action) SELECT 'same' FROM generate_series(1, 9)"
    await db.run_ddl(same)
    await seal(db, KEYS)
    expected = {
        "DELETE FROM audit_logs WHERE id IN (4, 6)": ("removed", 4),
        "UPDATE audit_logs SET action = 'other' WHERE id IN (3, 8)": ("altered", 3),
    }
    assert await problems_after(db, expected) == expected


async def test_seals_that_were_changed_are_named(db: Engine) -> None:
    await seal_three_times(db)
    assert await problems_after(db, SEALS) == SEALS


async def test_leaves_that_were_changed_are_noticed_and_do_not_mislead(db: Engine) -> None:
    await seal_three_times(db)
    assert await problems_after(db, LEAVES) == LEAVES


async def test_a_row_and_its_leaf_altered_together_are_noticed(db: Engine) -> None:
    await seal_three_times(db)
    kept = await AuditSeal.select(AuditSeal.leaves).where(AuditSeal.id == 1)
    await tamper(db, "UPDATE audit_logs SET actor = 'x' WHERE id = 5")
    await tamper(db, "CREATE TABLE made AS TABLE audit_seals; DELETE FROM audit_seals")
    await seal(db, KEYS)  # leaves as they would have to be
    sql = "UPDATE made SET leaves = substr(s.leaves, 1, 160) FROM audit_seals s WHERE made.id = 1"
    await tamper(db, f"{sql}; DELETE FROM audit_seals; INSERT INTO audit_seals SELECT * FROM made")
    assert kept != await AuditSeal.select(AuditSeal.leaves).where(AuditSeal.id == 1)
    problem = (await verify(db, KEYS)).problem
    assert problem is not None
    assert "the leaves of seal 1 were altered, too" in problem.message


async def test_who_has_no_key_cannot_mend_a_seal(db: Engine) -> None:
    await seal_three_times(db)
    await forge(db, 3, SealKeys(None))
    problem = (await verify(db, KEYS)).problem
    assert problem is not None
    assert (problem.kind, problem.seal) == ("seal_altered", 3)


async def test_a_seal_made_anew_breaks_the_chain_behind_it(db: Engine) -> None:
    nobody = SealKeys(None)
    await seal_three_times(db, nobody)
    await forge(db, 2, nobody)
    problem = (await verify(db, nobody)).problem
    assert problem is not None
    assert (problem.kind, problem.seal) == ("seal_altered", 3)


async def forge(db: Engine, number: int, keys: SealKeys) -> None:
    """Take the last row from under a seal, which is made anew to fit."""
    row = await AuditSeal.objects().where(AuditSeal.id == number).first()
    assert row is not None
    rows = await db.fetch(select(ROW, ROWS), row.first_id, row.last_id - 1, 100)
    leaves = [Leaf.of(each) for each in rows]
    new = {"row_count": len(leaves), "root": root_of(leaves), "key_id": keys.newest}
    digest = Seal.of({**row.to_dict(), **new}).sign(keys)
    await tamper(db, f"DELETE FROM audit_logs WHERE id = {row.last_id}")
    sql = """
        UPDATE audit_seals SET row_count = $2, root = $3, key_id = $4, digest = $5,
                               leaves = $6, algorithm = 'sha256'
        WHERE id = $1
    """
    await tamper(db, sql, number, *new.values(), digest, pack(leaves))


async def test_seals_kept_elsewhere_find_what_the_database_cannot_tell(db: Engine) -> None:
    """A superuser without scruples removes the tail, its seals, and the sequence's memory."""
    await seal_three_times(db)
    kept = {row["id"]: row["digest"] for row in await AuditSeal.select()}
    assert (await verify(db, KEYS, kept=kept)).problem is None
    await tamper(db, "DELETE FROM audit_logs WHERE id > 20; DELETE FROM audit_seals WHERE id > 2")
    await tamper(db, "SELECT setval('audit_seals_id_seq', 2)")
    assert (await verify(db, KEYS)).problem is None
    problem = (await verify(db, KEYS, kept=kept)).problem
    assert problem is not None
    assert (problem.kind, problem.seal) == ("seal_removed", 3)
    await fill(db, 22, 30)
    await seal(db, KEYS)
    problem = (await verify(db, KEYS, kept=kept)).problem
    assert problem is not None
    assert problem.message == "seal 3 is not the one that was exported"


async def test_sealing_goes_on_after_seals_were_removed_and_hides_nothing(db: Engine) -> None:
    await seal_three_times(db)
    await tamper(db, "DELETE FROM audit_seals WHERE id > 1; DELETE FROM audit_logs WHERE id > 10")
    await fill(db, 100, 110)
    assert (await seal(db, KEYS)).seals == 1
    problem = (await verify(db, KEYS)).problem
    assert problem is not None
    assert (problem.kind, problem.seal) == ("seal_removed", 2)


@pytest.mark.parametrize("keys", [SealKeys(None), KEYS])
async def test_an_empty_trail_verifies(db: Engine, keys: SealKeys) -> None:
    report = await verify(db, keys)
    assert (report.problem, report.seals, report.unsealed) == (None, 0, 0)
    await fill(db, 1, 2)
    assert (await verify(db, keys)).unsealed == 2
