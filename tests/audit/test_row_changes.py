"""Every change of a row is on the trail, whoever makes it and by whatever way."""

from __future__ import annotations

import asyncio
import json
import random
from typing import Any

import asyncpg
import pytest

from audit.context import Actor, acting_as
from audit.record import record
from audit.tables import AuditLog
from audit.triggers import CannotAttach, attach, detach, not_covered
from home.database.engine import Engine
from home.database.schema import differences
from home.tables import User, UserPreference

ADA = Actor("ada@example.com", None, "203.0.113.7", "request-1", True)


async def trail(resource: str = "users") -> list[dict[str, Any]]:
    rows = await AuditLog.select().where(AuditLog.resource == resource).order_by(AuditLog.id)
    return [dict(row) for row in rows]


async def things(db: Engine, **options: Any) -> None:
    """An audited table of somebody else's."""
    await db.run_ddl("create table things (id int primary key, name text, secret text, seen int)")
    await attach("things", **options)()


async def test_an_update_tells_who_from_where_and_what_changed(db: Engine, member: User) -> None:
    with acting_as(ADA):
        await User.update({User.display_name: "Mel"}).where(User.id == member.id)
    record = (await trail())[-1]
    assert record["action"] == "users.update"
    assert record["resource_id"] == str(member.id)
    assert record["actor"] == "ada@example.com"
    assert (record["ip_address"], record["request_id"]) == ("203.0.113.7", "request-1")
    assert record["is_admin_action"] is True
    assert record["details"] == (
        '{"after": {"display_name": "Mel"}, "before": {"display_name": null}}'
    )


async def test_a_change_that_the_session_would_not_write_out_is_recorded(db: Engine) -> None:
    await db.run_ddl("create table things (id int primary key, price float)")
    await attach("things")()
    await db.run_ddl("insert into things values (1, 100)")
    async with db.connection() as connection:
        await connection.execute("set extra_float_digits = -15; update things set price = 149")
    changed = '{"after": {"price": 149}, "before": {"price": 100}}'
    assert (await trail("things"))[-1]["details"] == changed


async def test_what_is_too_large_to_seal_is_refused(url: str, db: Engine) -> None:
    connection = await asyncpg.connect(url)
    with pytest.raises(asyncpg.CheckViolationError, match="audit_logs_details_size"):
        await connection.execute(
            "INSERT INTO audit_logs (action, details)"
            " SELECT 'x', jsonb_build_object('a', repeat('x', 100000001))"
        )
    await connection.close()


async def test_plain_sql_is_recorded_under_the_role(db: Engine, member: User, url: str) -> None:
    psql = await asyncpg.connect(url)
    await psql.execute("UPDATE users SET organization = 'Harbour'")
    role = await psql.fetchval("SELECT session_user")
    await psql.close()
    assert (await trail())[-1]["actor"] == f"db:{role}"


async def test_insert_and_delete_hold_the_row(db: Engine) -> None:
    await things(db, mask=["secret"], ignore=["seen"])
    await db.run_ddl("insert into things values (1, 'one', 'hush', 5), (2, 'two', null, 6)")
    await db.run_ddl("delete from things where id = 1")
    one, two, gone = await trail("things")
    assert one["action"] == "things.insert"
    assert one["details"] == '{"after": {"id": 1, "name": "one", "secret": "***"}}'
    assert two["details"] == '{"after": {"id": 2, "name": "two", "secret": null}}'
    assert gone["action"] == "things.delete"
    assert gone["details"] == '{"before": {"id": 1, "name": "one", "secret": "***"}}'


async def test_masked_columns_show_that_they_changed_and_ignored_ones_nothing(db: Engine) -> None:
    await things(db, mask=["secret"], ignore=["seen"])
    await db.run_ddl("insert into things values (1, 'one', 'hush', 5)")
    await db.run_ddl("update things set seen = 6, name = 'one'")
    assert len(await trail("things")) == 1
    await db.run_ddl("update things set secret = 'other', seen = 7")
    assert (await trail("things"))[-1]["details"] == (
        '{"after": {"secret": "***"}, "before": {"secret": "***"}}'
    )


async def test_truncate_is_recorded(db: Engine) -> None:
    await things(db)
    await db.run_ddl("insert into things select n from generate_series(1, 3) n")
    await db.run_ddl("truncate things")
    last = (await trail("things"))[-1]
    assert (last["action"], last["details"]) == ("things.truncate", '{"rows": 3}')


async def test_keys_of_several_columns_and_odd_names(db: Engine) -> None:
    await db.run_ddl('create table "odd ""name" (b int, "a b" text, primary key ("a b", b))')
    await attach('odd "name')()
    await db.run_ddl("""insert into "odd ""name" values (7, 'x')""")
    assert [row["resource_id"] for row in await trail('odd "name')] == ['["x", 7]']
    await detach('odd "name')()
    await db.run_ddl("""delete from "odd ""name" """)
    assert len(await trail('odd "name')) == 1


async def test_no_two_rows_have_the_same_name(db: Engine) -> None:
    await db.run_ddl("create table pairs (a text, b text, primary key (a, b))")
    await db.run_ddl("create table names (name text primary key)")
    await attach("pairs")()
    await attach("names")()
    long = "x" * 300
    pairs = [("a,b", "c"), ("a", "b,c"), ('a"', ""), ("a", '"'), (long, "a"), (long, "b")]
    for pair in pairs:
        await db.fetch("insert into pairs values ($1, $2)", *pair)
    for name in (long + "a", long + "b", "short"):
        await db.fetch("insert into names values ($1)", name)
        await db.fetch("delete from names where name = $1", name)
    found = [row["resource_id"] for row in await trail("pairs")]
    assert len(set(found)) == len(pairs)
    assert [json.loads(each) for each in found[:4]] == [list(pair) for pair in pairs[:4]]
    found = [row["resource_id"] for row in await trail("names")]
    assert (found[0], found[2], found[4]) == (found[1], found[3], found[5])
    assert (len(set(found)), found[4], len(found[0])) == (3, "short", 255)


async def test_an_update_calls_a_row_as_its_insert_did(db: Engine) -> None:
    await db.run_ddl("create table pairs (a text, b int, n int, primary key (a, b))")
    await db.run_ddl("create table names (name text primary key, n int)")
    await attach("pairs")()
    await attach("names")()
    for name in ("x" * 255, "x" * 300, "short"):
        await db.fetch("insert into pairs values ($1, 7, 1)", name)
        await db.fetch("insert into names values ($1, 1)", name)
        await db.fetch("update pairs set n = 2 where a = $1", name)
        await db.fetch("update names set n = 2 where name = $1", name)
    for table in ("pairs", "names"):
        found = [row["resource_id"] for row in await trail(table)]
        assert found[::2] == found[1::2]
        assert len(set(found)) == 3


async def test_columns_that_came_or_changed_later_are_recorded(db: Engine) -> None:
    await things(db, mask=["secret"], ignore=["seen"])
    await db.run_ddl("insert into things values (1, 'one', 'hush', 5)")
    await db.run_ddl("update things set name = 'two'")  # whatever is kept of a plan
    for change in (
        "alter table things add size int default 3",
        "alter table things rename name to title",
        "alter table things alter title type varchar(9)",
    ):
        await db.run_ddl(change)
    await db.run_ddl("update things set size = 4, title = 'three', secret = null")
    assert (await trail("things"))[-1]["details"] == (
        '{"after": {"size": 4, "title": "three", "secret": null},'
        ' "before": {"size": 3, "title": "two", "secret": "***"}}'
    )
    await db.run_ddl("alter table things drop title")
    await db.run_ddl("update things set size = 5")
    assert (await trail("things"))[-1]["details"] == '{"after": {"size": 5}, "before": {"size": 4}}'


async def test_what_a_trigger_changes_for_a_deleted_person_is_recorded(
    db: Engine, member: User
) -> None:
    await things(db, mask=["secret"])
    await db.run_ddl("insert into things values (1, 'one', 'hush')")
    await db.execute("""
        create function follow() returns trigger language plpgsql as
            $$ begin update things set name = 'gone'; return null; end $$;
        create trigger follow after delete on users for each row execute function follow()
    """)
    with acting_as(Actor(member.email, member.id)):
        await User.delete().where(User.id == member.id)
    last = (await trail("things"))[-1]
    assert (last["action"], last["actor"]) == ("things.update", member.email)
    assert last["user_id"] is None
    assert last["details"] == '{"after": {"name": "gone"}, "before": {"name": "one"}}'


async def test_who_is_deleted_may_be_pointed_at_by_what_is_recorded(
    db: Engine, member: User
) -> None:
    await db.execute("""
        create table things (
            id int primary key, owner int references users on delete set null, name text)
    """)
    await attach("things")()
    await db.execute("insert into things values (1, $1, 'one')", member.id)
    with acting_as(Actor(member.email, member.id)):
        await User.delete().where(User.id == member.id)
    last = (await trail("things"))[-1]
    assert (last["action"], last["actor"]) == ("things.update", member.email)
    assert last["user_id"] is None
    assert last["details"] == f'{{"after": {{"owner": null}}, "before": {{"owner": {member.id}}}}}'


async def test_a_table_of_another_schema_is_called_by_it(db: Engine) -> None:
    await db.execute("create schema archive; create table archive.things (id int primary key)")
    await things(db)
    await attach("things", schema="archive")()
    await db.execute("insert into archive.things values (1); insert into things values (2)")
    await db.execute("update archive.things set id = 3; truncate archive.things")
    found = [(row["action"], row["resource_id"]) for row in await trail("archive.things")]
    assert found == [
        ("archive.things.insert", "1"),
        ("archive.things.update", "1"),
        ("archive.things.truncate", None),
    ]
    assert [row["resource_id"] for row in await trail("things")] == ["2"]
    async with db.connection() as connection:
        assert await not_covered(connection) == []
    await detach("things", schema="archive")()
    await db.run_ddl("insert into archive.things values (4)")
    assert len(await trail("archive.things")) == 3


@pytest.mark.parametrize(
    ("table", "reason"),
    [
        ("heap", "has no primary key"),
        ("events", "is partitioned"),
        ("events_2026", "is a partition of another table"),
        ("parent", "has tables that inherit from it"),
        ("child", "inherits from one"),
        ("seen", "is partitioned, or no table"),
        ("n" * 63, "has a name of more than 90"),
    ],
)
async def test_tables_that_would_not_be_covered_are_refused(
    db: Engine, table: str, reason: str
) -> None:
    schema = "s" * 63
    await db.execute(f"""
        create table heap (n int);
        create table events (id int primary key) partition by range (id);
        create table events_2026 partition of events for values from (1) to (9);
        create table parent (id int primary key);
        create table child (primary key (id)) inherits (parent);
        create view seen as select * from parent;
        create schema {schema};
        create table {schema}.{"n" * 63} (id int primary key)
    """)
    with pytest.raises(CannotAttach, match=reason):
        await attach(table, schema=schema if table.startswith("nn") else None)()


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ("alter table things disable trigger audit_row", "is disabled: audit_row"),
        ("alter table things enable replica trigger audit_insert", "disabled: audit_insert"),
        (
            "drop trigger audit_truncate on things",
            "is disabled: audit_truncate",
        ),
        ("create table more () inherits (things)", "has tables that inherit from it"),
        ("alter table things drop constraint things_pkey", "has no primary key"),
        (
            "alter table things drop constraint things_pkey, add primary key (seen)",
            "has another primary key now",
        ),
        ("alter table things rename id to number", "has another primary key now"),
        ("alter table things rename sécret to hidden", "has no column sécret any more"),
    ],
)
async def test_what_is_not_covered_any_more_is_named(db: Engine, change: str, line: str) -> None:
    await db.run_ddl("create table things (id int primary key, name text, sécret text, seen int)")
    await attach("things", mask=["sécret"])()
    async with db.connection() as connection:
        assert await not_covered(connection) == []
    await db.execute(change)
    [found] = [each for each in await differences(db) if "audit trail" in each]
    assert found.startswith("table things: is on the audit trail, but it ")
    assert line in found


async def test_columns_that_are_not_there_are_refused(db: Engine) -> None:
    with pytest.raises(CannotAttach, match="passwort"):
        await attach("users", mask=["passwort"])()


async def test_what_is_rolled_back_leaves_no_record(db: Engine, member: User) -> None:
    before = len(await trail())
    with pytest.raises(ZeroDivisionError), acting_as(ADA):
        async with db.transaction():
            await User.update({User.display_name: "Mel"}, force=True)
            await record(db, "something.happened")
            raise ZeroDivisionError
    assert len(await trail()) == before
    assert not await AuditLog.exists().where(AuditLog.action == "something.happened")


async def test_a_person_who_deletes_himself_stays_on_the_trail(db: Engine, member: User) -> None:
    await UserPreference(user_id=member.id, preferences={}).save()
    with acting_as(Actor(member.email, member.id)):
        await User.delete().where(User.id == member.id)
    [deleted] = [row for row in await trail() if row["action"] == "users.delete"]
    assert (deleted["actor"], deleted["user_id"]) == (member.email, None)
    [cascaded] = [r for r in await trail("user_preferences") if r["action"].endswith("delete")]
    assert cascaded["actor"] == member.email


async def test_a_bulk_update_has_a_record_for_each_row(db: Engine) -> None:
    await things(db)
    with acting_as(ADA):
        await db.fetch("insert into things select n, 'x' from generate_series(1, 5000) n")
        await db.fetch("update things set name = 'y'")
    counts = "select action, actor, count(*) from audit_logs group by 1, 2 order by 1"
    found = [tuple(row) for row in await db.run_ddl(counts)]
    assert ("things.insert", "ada@example.com", 5000) in found
    assert ("things.update", "ada@example.com", 5000) in found


# How an insert can be written; {0} is the plain one.
SPELLINGS = [
    "{0}",
    "  \n\t{0}",
    "-- a comment\n{0}",
    "/* a comment /* in a comment */ */ {0}",
    "/* select */ -- select\n /**/ {0};",
    "with one as ({0} returning id) select id from one",
    "with recursive n as (select 1) {0}",
    "do $$ begin {0}; end $$",
    "do $_$ begin perform put({id}, '{name}'); end $_$",
    "call put_by_procedure({id}, '{name}')",
    "select put({id}, '{name}')",
    "-- select 1\nselect /* nothing */ put\n({id}, '{name}')",
    "select \"put\"({id}, '{name}')",
    "select public.put({id}, '{name}') where true",
    "values (put({id}, '{name}'))",
    "select * from (values (1)) as one, lateral put({id}, '{name}')",
    "select count(put({id}, '{name}')) from generate_series(1, 1)",
    "select case when true then put({id}, '{name}') end",
    "explain analyze {0}",
    "merge into things using (values ({id}, '{name}')) as new (id, name) on things.id = new.id"
    " when not matched then insert (id, name) values (new.id, new.name)",
]
FUNCTIONS = """
    create function put(id_ int, name_ text) returns int language sql as
        'insert into things (id, name) values (id_, name_) returning id';
    create procedure put_by_procedure(id_ int, name_ text) language sql as
        'insert into things (id, name) values (id_, name_)';
"""


@pytest.mark.parametrize("how", ["fetch", "fetchrow", "fetchval", "execute"])
async def test_every_spelling_names_the_person(db: Engine, how: str) -> None:
    await things(db)
    await db.execute(FUNCTIONS)
    with acting_as(ADA):
        for number, spelling in enumerate(SPELLINGS):
            plain = f"insert into things (id, name) values ({number}, 'x')"
            await getattr(db, how)(spelling.format(plain, id=number, name="x"))
    found = [(row["resource_id"], row["actor"]) for row in await trail("things")]
    assert found == [(str(number), ADA.name) for number in range(len(SPELLINGS))]


async def test_actors_do_not_mix(db: Engine) -> None:
    """Hunted at random: fifty writers, nested, gathered, cancelled, failing, on few connections."""
    await things(db)
    await db.execute(FUNCTIONS)
    seed = random.randrange(10**9)
    dice = random.Random(seed)
    ids = iter(range(10**6))

    async def write(name: str, task_dice: random.Random) -> None:
        number = next(ids)
        sql = f"insert into things (id, name) values ({number}, '{name}')"
        kinds = [
            "plain",
            "several",
            "copy",
            "transaction",
            "nested",
            "fails",
            "inside",
            "savepoint",
        ]
        kind = task_dice.choice([*kinds, *["spelled"] * 8])
        if kind == "plain":
            await db.fetch(sql)
        elif kind == "spelled":
            spelling = task_dice.choice(SPELLINGS)
            await getattr(db, task_dice.choice(["fetch", "fetchrow", "fetchval", "execute"]))(
                spelling.format(sql, id=number, name=name)
            )
        elif kind == "several":
            await db.execute(f"select 1; /* and */ {sql}; select 2")
        elif kind == "copy":
            async with db.connection() as connection:
                await connection.copy_records_to_table(
                    "things", records=[(number, name)], columns=["id", "name"]
                )
        elif kind == "inside":
            async with db.transaction():
                with acting_as(Actor(f"{name}-inside")):
                    await db.fetch(sql.replace(f"'{name}'", f"'{name}-inside'"))
                await db.fetch(f"update things set seen = 1 where id = {number}")
                await db.fetch(f"update things set name = '{name}' where id = {number}")
        elif kind == "savepoint":
            async with db.transaction():
                with pytest.raises(ZeroDivisionError), acting_as(Actor("nobody")):
                    async with db.transaction():
                        await db.fetch(f"insert into things values ({next(ids)}, 'nobody')")
                        raise ZeroDivisionError
                await db.fetch(sql)
        else:
            async with db.transaction():
                await asyncio.sleep(task_dice.random() / 200)
                await db.fetch(sql)
                if kind == "nested":
                    update = f"update things set seen = seen + 1 where id = {number}"
                    await asyncio.gather(*[db.fetch(update) for _ in range(3)])
                if kind == "fails":
                    raise ZeroDivisionError

    async def person(name: str) -> None:
        task_dice = random.Random(f"{seed}{name}")
        with acting_as(Actor(name)):
            for _ in range(8):
                task = asyncio.create_task(write(name, task_dice))
                if dice.random() < 0.2:
                    await asyncio.sleep(dice.random() / 100)
                    task.cancel()
                await asyncio.gather(task, return_exceptions=True)

    await asyncio.gather(*[person(f"person{n}") for n in range(50)])
    await db.run_ddl("insert into things (id, name) values (-1, 'psql')")
    rows = [row for row in await trail("things") if row["action"] == "things.insert"]
    ids_in_table = {str(row["id"]) for row in await db.run_ddl("select id from things")}
    assert {row["resource_id"] for row in rows} == ids_in_table
    assert rows.pop()["actor"].startswith("db:")
    mixed_up = [row for row in rows if f'"name": "{row["actor"]}"' not in row["details"]]
    assert mixed_up == [], f"seed {seed}"
