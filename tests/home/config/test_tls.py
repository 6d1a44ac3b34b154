"""TLS as libpq means it, against a real server with a certificate for «localhost»."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from audit.errors import DatabaseUnavailable
from home.config.settings import Settings
from home.database.engine import Engine
from tests.conftest import installed_server, missing
from tests.home.config.test_settings import CANARY, everything_said
from tests.postgres import Server

CLIENTS_WITH_CERTIFICATES = """
local   all all                 trust
hostssl all bob 127.0.0.1/32    cert
hostssl all bob ::1/128         cert
host    all all 127.0.0.1/32    scram-sha-256
host    all all ::1/128         scram-sha-256
"""


class Authority:
    """A certificate authority in a folder."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.folder = folder
        self.root = folder / "root.crt"
        key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
        self.openssl(
            "req", "-x509", *key, "-days", "2", "-subj", "/CN=Test authority",
            "-keyout", "root.key", "-out", "root.crt",
        )  # fmt: skip

    def issue(self, name: str) -> tuple[Path, Path]:
        """A certificate and its key for a host or a database user."""
        key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
        (self.folder / "names").write_text(f"subjectAltName=DNS:{name}\n")
        self.openssl(
            "req", *key, "-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", "request"
        )
        self.openssl(
            "x509", "-req", "-in", "request", "-CA", "root.crt", "-CAkey", "root.key",
            "-CAcreateserial", "-days", "2", "-extfile", "names", "-out", f"{name}.crt",
        )  # fmt: skip
        return self.folder / f"{name}.crt", self.folder / f"{name}.key"

    def openssl(self, *arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=self.folder, check=True, capture_output=True)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    if shutil.which("openssl") is None:
        missing("openssl", "apt-get install openssl")
    return Authority(tmp_path_factory.mktemp("tls") / "ours")


@pytest.fixture(scope="module")
def another_authority(authority: Authority) -> Authority:
    return Authority(authority.folder.parent / "another")


@pytest.fixture(scope="module")
def server(authority: Authority) -> Iterator[Server]:
    server = installed_server()
    certificate, key = authority.issue("localhost")
    for file in (certificate, key, authority.root):
        copy = Path(shutil.copy(file, server.folder))
        copy.chmod(0o600)
        if server.user:
            shutil.chown(copy, server.user)
    (server.data / "pg_hba.conf").write_text(CLIENTS_WITH_CERTIFICATES)
    server.start(
        ssl="on",
        ssl_cert_file=server.folder / certificate.name,
        ssl_key_file=server.folder / key.name,
        ssl_ca_file=server.folder / authority.root.name,
    )
    yield server
    server.remove()


@pytest.fixture(scope="module")
def plain_server(server: Server) -> Iterator[Server]:
    """A server that offers no TLS."""
    plain = installed_server()
    plain.start(ssl="off")
    yield plain
    plain.remove()


@pytest.fixture(scope="module", autouse=True)
async def people(server: Server) -> None:
    """Ada, who has a password, and Bob, who has a certificate."""
    connection = await asyncpg.connect(server.url())
    await connection.execute(f"CREATE ROLE ada LOGIN PASSWORD '{CANARY}'")
    await connection.execute("CREATE ROLE bob LOGIN")
    await connection.close()


def place(server: Server, host: str = "localhost", user: str = f"ada:{CANARY}") -> str:
    return f"postgresql://{user}@{host}:{server.port}/postgres"


async def is_encrypted(url: str) -> bool:
    """Connect as the application does, and ask the server."""
    connection = await Engine(Settings(database_url=url)).get_new_connection()
    try:
        sql = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
        return bool(await connection.fetchval(sql))
    finally:
        await connection.close()


async def reason_of_refusal(url: str) -> str:
    with pytest.raises(DatabaseUnavailable) as caught:
        await is_encrypted(url)
    assert CANARY not in everything_said(caught.value)
    return caught.value.reason


@pytest.mark.parametrize("query", ["", "?sslmode=prefer", "?sslmode=require", "?ssl=true"])
async def test_without_verification_any_certificate_will_do(server: Server, query: str) -> None:
    assert await is_encrypted(place(server, "127.0.0.1") + query)


@pytest.mark.parametrize("query", ["?sslmode=disable", "?ssl=false", "?sslmode=allow"])
async def test_disabled_or_only_allowed_means_plain_text(server: Server, query: str) -> None:
    assert not await is_encrypted(place(server) + query)


@pytest.mark.parametrize("mode", ["require", "verify-ca", "verify-full"])
async def test_a_certificate_of_the_given_authority_is_accepted(
    server: Server, authority: Authority, mode: str
) -> None:
    assert await is_encrypted(f"{place(server)}?sslmode={mode}&sslrootcert={authority.root}")


@pytest.mark.parametrize("mode", ["require", "verify-ca", "verify-full"])
async def test_a_certificate_of_another_authority_is_refused(
    server: Server, another_authority: Authority, mode: str
) -> None:
    url = f"{place(server)}?sslmode={mode}&sslrootcert={another_authority.root}"
    assert await reason_of_refusal(url) == "tls_failed"


@pytest.mark.parametrize(
    "query", ["sslmode=verify-ca", "sslmode=verify-full", "sslrootcert=system"]
)
async def test_the_authorities_of_the_system_do_not_know_it(server: Server, query: str) -> None:
    assert await reason_of_refusal(f"{place(server)}?{query}") == "tls_failed"


async def test_only_full_verification_looks_at_the_name(
    server: Server, authority: Authority
) -> None:
    url = f"{place(server, host='127.0.0.1')}?sslrootcert={authority.root}&sslmode="
    assert await is_encrypted(url + "verify-ca")
    assert await reason_of_refusal(url + "verify-full") == "tls_failed"


@pytest.mark.parametrize("mode", ["require", "verify-ca", "verify-full"])
async def test_a_server_without_tls_is_refused_where_tls_is_required(
    plain_server: Server, authority: Authority, mode: str
) -> None:
    url = f"postgresql://postgres:{CANARY}@localhost:{plain_server.port}/postgres?sslmode={mode}"
    assert await reason_of_refusal(url) == "tls_failed"
    assert await reason_of_refusal(f"{url}&sslrootcert={authority.root}") == "tls_failed"


@pytest.mark.parametrize("query", ["", "?sslmode=prefer", "?sslmode=allow"])
async def test_prefer_and_allow_fall_back_to_plain_text(plain_server: Server, query: str) -> None:
    assert not await is_encrypted(plain_server.url() + query)


async def test_a_client_may_show_a_certificate_instead_of_a_password(
    server: Server, authority: Authority
) -> None:
    certificate, key = authority.issue("bob")
    url = f"{place(server, user='bob')}?sslmode=require"
    assert await is_encrypted(f"{url}&sslcert={certificate}&sslkey={key}")
    assert await reason_of_refusal(url) == "authentication_failed"


async def test_an_encrypted_key_is_opened_with_its_password_and_never_asks(
    server: Server, authority: Authority
) -> None:
    certificate, key = authority.issue("bob")
    locked = key.with_name("locked.key")
    authority.openssl(
        "ec", "-in", key.name, "-aes256", "-passout", "pass:open", "-out", locked.name
    )
    url = f"{place(server, user='bob')}?sslmode=require&sslcert={certificate}&sslkey={locked}"
    assert await is_encrypted(f"{url}&sslpassword=open")
    with pytest.raises(ValueError, match="sslrootcert, sslcert or sslkey cannot be used"):
        await is_encrypted(url)
