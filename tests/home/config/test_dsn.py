"""URLs as other drivers write them, and passwords as people choose them."""

from __future__ import annotations

import ssl
import string
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import quote

import asyncpg
import pytest

from audit.errors import DatabaseUnavailable
from home.config.dsn import ENCODE_HINT, Database, DsnError, from_parts, from_url
from home.config.settings import Settings
from home.database.engine import Engine
from tests.conftest import Place
from tests.home.config.test_settings import CANARY, everything_said

FOREIGN = {
    "uselibpqcompat": "true",  # node-postgres
    "channel_binding": "prefer",  # libpq, Neon
    "connect_timeout": "10",
    "keepalives": "1",
    "keepalives_idle": "30",
    "keepalives_interval": "10",
    "keepalives_count": "5",
    "gssencmode": "disable",
    "pgbouncer": "true",  # Prisma
    "schema": "public",
    "connection_limit": "5",
    "pool_timeout": "10",
    "prepared_statements": "false",
}


def refusal(url: str) -> str:
    with pytest.raises(DsnError) as caught:
        from_url(url)
    assert CANARY not in everything_said(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    "scheme",
    ["postgres", "postgresql", "postgresql+asyncpg", "postgresql+psycopg", "PostgreSQL"],
)
def test_every_scheme_leads_to_the_same_place(scheme: str) -> None:
    assert from_url(f"{scheme}://ada:{CANARY}@db.example.com:6432/tickets").args == {
        "host": "db.example.com",
        "port": 6432,
        "user": "ada",
        "password": CANARY,
        "database": "tickets",
        "ssl": "prefer",
    }


@pytest.mark.parametrize("url", ["", "ada", "mysql://db/x", f"://ada:{CANARY}@db/x", "db.com/x"])
def test_another_scheme_is_refused(url: str) -> None:
    assert refusal(url) == "must begin with postgresql://"


def test_what_is_absent_has_the_usual_default() -> None:
    expected = {"host": "localhost", "port": 5432, "user": "postgres", "password": None}
    expected |= {"database": "postgres"}
    assert from_url("postgresql://").args == {**expected, "ssl": "prefer"}
    assert from_parts({}).args == expected
    assert from_url("postgresql://ada@db").args["database"] == "ada"


@pytest.mark.parametrize(
    ("location", "host", "port"),
    [
        ("db:6432", "db", 6432),
        ("[2001:db8::1]", "2001:db8::1", 5432),
        ("ada@[::1]:6432", "::1", 6432),
        ("ada@[fe80::1%25eth0]:6432", "fe80::1%eth0", 6432),
        ("ada@%2Fvar%2Frun%2Fpostgresql", "/var/run/postgresql", 5432),
        ("ada@", "localhost", 5432),
    ],
)
def test_hosts_ports_and_ipv6(location: str, host: str, port: int) -> None:
    args = from_url(f"postgresql://{location}/tickets").args
    assert (args["host"], args["port"], args["database"]) == (host, port, "tickets")


@pytest.mark.parametrize("query", ["?host=/cloudsql/a:b:c", "?host=%2Fcloudsql%2Fa%3Ab%3Ac"])
def test_a_socket_is_a_host_without_tls(query: str) -> None:
    database = from_url(f"postgresql://ada:pw@/tickets{query}&port=6432&sslmode=require")
    assert database.args == {
        "host": "/cloudsql/a:b:c",
        "port": 6432,
        "user": "ada",
        "password": "pw",
        "database": "tickets",
    }
    assert database.ignored == ("sslmode",)


def test_user_password_and_database_may_stand_in_the_query() -> None:
    args = from_url("postgresql://db/?user=ada&password=p%40ss&dbname=tickets").args
    assert (args["user"], args["password"], args["database"]) == ("ada", "p@ss", "tickets")


@pytest.mark.parametrize("port", ["5x", "0", "65536", "-1", "5432.0", "0x1", "٣", "0000005432"])
def test_a_port_is_a_number_from_1_to_65535(port: str) -> None:
    for url in (f"postgresql://ada:{CANARY}@db:{port}/x", f"postgresql://db/x?port={port}"):
        assert refusal(url).startswith("the port must be a number from 1 to 65535")


@pytest.mark.parametrize(
    ("location", "hosts", "ports"),
    [
        ("one:6432,two/tickets", "one,two", "6432,5432"),
        ("ada:pw@one,two:6433/tickets", "one,two", "5432,6433"),
        ("[::1]:6432,[2001:db8::1]/tickets", "::1,2001:db8::1", "6432,5432"),
        ("/tickets?host=one,two&port=6432,6433", "one,two", "6432,6433"),
        ("/tickets?host=one,two&port=6432", "one,two", "6432,6432"),
        ("one,two/tickets?port=6432", "one,two", "6432,6432"),
        ("/tickets?host=/run/one,two", "/run/one,two", "5432,5432"),
    ],
)
def test_several_hosts_are_as_libpq_has_them(location: str, hosts: str, ports: str) -> None:
    args = from_url(f"postgresql://{location}").args
    assert (args["host"], args["port"], args["database"]) == (hosts, ports, "tickets")
    assert (args["target_session_attrs"], args["ssl"]) == ("primary", "prefer")


def test_of_several_hosts_the_primary_is_wanted_and_of_replicas_a_standby() -> None:
    url = f"postgresql://ada:{CANARY}@one,two/x"
    settings = Settings(database_url=url, database_replica_url=url)
    assert settings.database is not None
    assert settings.replica is not None
    assert settings.database.args["target_session_attrs"] == "primary"
    assert settings.replica.args["target_session_attrs"] == "standby"
    explicit = from_url(f"{url}?target_session_attrs=read-only")
    assert explicit.args["target_session_attrs"] == "read-only"
    assert "target_session_attrs" not in from_url("postgresql://one/x").args
    assert from_parts({"host": "one,two", "port": 6432}).args["port"] == "6432,6432"


@pytest.mark.parametrize(
    ("location", "problem"),
    [
        ("one,,two/x", "names no host"),
        ("one,/x", "names no host"),
        ("one,two/x?port=1,2,3", "needs one port"),
        ("one/x?port=1,2", "needs one port"),
    ],
)
def test_hosts_and_ports_that_do_not_fit_are_refused(location: str, problem: str) -> None:
    assert refusal(f"postgresql://ada:{CANARY}@{location}").startswith(problem)


@pytest.mark.parametrize("character", "#/?[]℀")
def test_a_reserved_character_as_it_is_names_the_mend_and_not_the_password(character: str) -> None:
    for password in (f"{character}{CANARY}", f"{CANARY}{character}", f"5432{character}{CANARY}"):
        assert ENCODE_HINT in refusal(f"postgresql://ada:{password}@db/x")


def test_what_cannot_be_misread_need_not_be_encoded() -> None:
    password = "a@b:c%d\\e&f=g+h!"
    assert from_url(f"postgresql://ada:{password}@db/x").args["password"] == password


@pytest.mark.parametrize("text", ["\x00", "%00", "\n", "\t", "\x1b"])
def test_control_characters_are_refused(text: str) -> None:
    assert "control characters" in refusal(f"postgresql://ada:{CANARY}{text}x@db/x")


@pytest.mark.parametrize("text", ["%FF", "%C3", "%ED%A0%80"])
def test_bytes_that_are_not_utf_8_are_refused(text: str) -> None:
    assert refusal(f"postgresql://ada:{CANARY}{text}@db/x") == ENCODE_HINT


def test_parameters_of_other_drivers_are_ignored_and_named() -> None:
    query = "&".join(f"{name}={value}" for name, value in FOREIGN.items())
    database = from_url(f"postgresql://ada:pw@db/x?{query}&application_name=tickets")
    assert database.ignored == tuple(sorted(FOREIGN))
    assert database.args["server_settings"] == {"application_name": "tickets"}


def test_the_endpoint_of_neon_travels_in_options() -> None:
    url = "postgresql://ada:pw@ep-cool.neon.tech/x?sslmode=require&options=endpoint%3Dep-cool"
    database = from_url(url)
    assert database.args["server_settings"] == {"options": "endpoint=ep-cool"}
    assert (database.args["ssl"], database.ignored) == ("require", ())


def test_the_kind_of_session_is_passed_on_and_checked() -> None:
    url = "postgresql://db/x?target_session_attrs="
    assert from_url(f"{url}read-write").args["target_session_attrs"] == "read-write"
    assert refusal(f"{url}anything").startswith("target_session_attrs must be one of any, ")


@pytest.mark.parametrize(
    ("query", "mode"),
    [
        ("", "prefer"),
        ("sslmode=disable", "disable"),
        ("sslmode=allow", "allow"),
        ("sslmode=require", "require"),
        ("ssl=true", "require"),
        ("ssl=1", "require"),
        ("ssl=require", "require"),
        ("ssl=false", "disable"),
        ("ssl=false&sslmode=require", "require"),
        ("sslmode=disable&sslcert=/nowhere.crt", "disable"),
    ],
)
def test_modes_that_verify_nothing(query: str, mode: str) -> None:
    assert from_url(f"postgresql://db/x?{query}").args["ssl"] == mode


@pytest.mark.parametrize(
    ("query", "checks_name"),
    [
        ("sslmode=verify-ca", False),
        ("sslmode=verify-full", True),
        ("ssl=verify-full", True),
        ("sslrootcert=system", True),
        ("sslmode=require&sslrootcert=system", True),
        ("sslmode=verify-ca&sslrootcert=system", True),
    ],
)
def test_modes_that_verify(query: str, checks_name: bool) -> None:
    context = from_url(f"postgresql://db/x?{query}").args["ssl"]
    assert isinstance(context, ssl.SSLContext)
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, checks_name)


@pytest.mark.parametrize("query", ["sslmode=yes", "sslmode=no-verify", "ssl=maybe"])
def test_an_unknown_mode_is_refused_with_the_known_ones(query: str) -> None:
    modes = "disable, allow, prefer, require, verify-ca, verify-full"
    assert refusal(f"postgresql://db/x?{query}") == f"sslmode must be one of {modes}"


@pytest.mark.parametrize(
    "query",
    [
        "sslmode=verify-full&sslrootcert={}",
        "sslmode=require&sslrootcert={}",
        "sslcert={}",
        "sslmode=require&sslcert={}&sslkey={}",
    ],
)
def test_a_certificate_file_that_cannot_be_used_is_refused(tmp_path: Path, query: str) -> None:
    (tmp_path / "no-certificate").write_text("no certificate")
    for file in ("nowhere", "no-certificate"):
        url = "postgresql://db/x?" + query.replace("{}", str(tmp_path / file))
        assert "sslrootcert, sslcert or sslkey cannot be used" in refusal(url)


def test_the_arguments_are_not_shown() -> None:
    database = from_url(f"postgresql://ada:{CANARY}@db/x?gssencmode=disable")
    assert repr(database) == "Database(ignored=('gssencmode',))"
    assert isinstance(database, Database)


async def connect(url: str) -> asyncpg.Connection:
    return await Engine(Settings(database_url=url)).get_new_connection()


@pytest.fixture
async def ada(place: Place, maintenance: asyncpg.Connection) -> AsyncIterator[str]:
    """The place of a server that asks Ada for her password."""
    await maintenance.execute("CREATE ROLE ada LOGIN")
    yield place.direct.rpartition("@")[2]
    await maintenance.execute("DROP ROLE ada")


# The embedded PostgreSQL trusts everyone who reaches its socket.
@pytest.mark.parametrize("place", ["installed"], indirect=True)
async def test_a_password_of_any_character_connects(
    ada: str, maintenance: asyncpg.Connection
) -> None:
    for character in string.punctuation + " é漢🙂":
        password = f"{character}p{character}{character}w%41{character}"
        literal = password.replace("'", "''")
        await maintenance.execute(f"ALTER ROLE ada PASSWORD '{literal}'")
        connection = await connect(f"postgresql://ada:{quote(password, safe='')}@{ada}")
        assert await connection.fetchval("SELECT current_user") == "ada"
        await connection.close()
    with pytest.raises(DatabaseUnavailable) as caught:
        await connect(f"postgresql://ada:{CANARY}@{ada}")
    assert caught.value.reason == "authentication_failed"
    assert CANARY not in everything_said(caught.value)


@pytest.mark.direct
async def test_a_url_full_of_foreign_parameters_connects(url: str) -> None:
    query = "&".join(f"{name}={value}" for name, value in FOREIGN.items())
    options = "application_name=tickets&options=-c%20geqo%3Doff&target_session_attrs=read-write"
    for scheme in ("postgres", "postgresql+asyncpg"):
        elsewhere = url.replace("postgresql", scheme, 1) + ("&" if "?" in url else "?")
        connection = await connect(f"{elsewhere}{query}&{options}&sslmode=prefer")
        assert await connection.fetchval("SHOW application_name") == "tickets"
        assert await connection.fetchval("SHOW geqo") == "off"
        await connection.close()
