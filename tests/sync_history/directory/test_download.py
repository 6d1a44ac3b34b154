"""A directory from a web server that behaves, and from all the others."""

from __future__ import annotations

import asyncio
import gzip
import json
import logging
import socket
import ssl
import threading
from collections.abc import Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, cast

import asyncpg
import pytest
from pydantic import SecretStr

from audit.tables import AuditLog
from home.database.engine import Engine
from home.tables import User
from sync_history.directory import download
from sync_history.directory.tables import DirectoryFile
from sync_history.sources import SyncFailed
from tests.home.config.test_tls import Authority
from tests.sync_history.directory.directories import (
    ADA,
    BEA,
    Report,
    run_directory,
    set_directory,
    write_json,
)

TOKEN = "canary-t0k3n"


class DirectoryServer(ThreadingHTTPServer):
    """Answers what tests lay down, and writes down what it was asked."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("0.0.0.0", 0), Handler)
        self.status = 200
        self.headers: dict[str, str] = {}
        self.body = b""
        self.length: int | None = None
        self.pause = 0.0
        self.redirects: dict[str, str] = {}
        self.asked: list[dict[str, str]] = []
        self.stopped = threading.Event()

    def serve(self, *people: dict[str, Any], etag: str | None = None) -> None:
        self.body = json.dumps(people).encode()
        self.headers = {"ETag": etag} if etag else {}

    def address(self, path: str = "/people?key=canary") -> str:
        return f"http://127.0.0.1:{self.server_port}{path}"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        server = cast(DirectoryServer, self.server)
        server.asked.append({"path": self.path, **{k.lower(): v for k, v in self.headers.items()}})
        if target := server.redirects.get(self.path):
            self.send_response(302)
            self.send_header("Location", target)
            self.end_headers()
            return
        etag = server.headers.get("ETag")
        if etag and self.headers.get("If-None-Match") == etag:
            self.send_response(304)
            self.end_headers()
            return
        self.send_response(server.status)
        for name, value in server.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(server.length or len(server.body)))
        self.end_headers()
        if server.pause:
            server.stopped.wait(server.pause)
        self.wfile.write(server.body)

    def log_message(self, *arguments: object) -> None: ...


@pytest.fixture
def server() -> Iterator[DirectoryServer]:
    with DirectoryServer() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.stopped.set()
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def directory_there(db: Engine, server: DirectoryServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(db, "settings", db.settings)
    set_directory(server.address())
    server.serve(ADA, BEA)


async def refusal(report: Report | None = None) -> str:
    """Why a run fails; that it changed nothing."""
    before = await User.count(), await AuditLog.count()
    with pytest.raises(SyncFailed) as failed:
        await run_directory(report)
    assert (await User.count(), await AuditLog.count()) == before
    assert "canary" not in str(failed.value)
    return str(failed.value)


async def test_people_come_from_a_web_address_with_a_token(server: DirectoryServer) -> None:
    set_directory(server.address(), directory_token=SecretStr(TOKEN))
    report = await run_directory()
    assert (report.items, report.done, await User.count()) == (2, 2, 2)
    [asked] = server.asked
    assert asked["authorization"] == f"Bearer {TOKEN}"
    assert asked["accept-encoding"] == "identity"
    assert "if-none-match" not in asked


async def test_an_unchanged_directory_is_not_sent_again(server: DirectoryServer) -> None:
    server.serve(ADA, BEA, etag='W/"1"')
    await run_directory()
    report = await run_directory()
    assert server.asked[-1]["if-none-match"] == 'W/"1"'
    assert (report.items, report.done) == (2, 2)
    assert report.notes == ["The directory is unchanged since it was read last."]
    server.serve(ADA, etag='W/"2"')
    assert (await run_directory()).notes == ["1 left and disabled."]
    assert (await run_directory()).done == 1


@pytest.mark.parametrize("how", ["force", "dry_run", "a day later", "another address"])
async def test_an_unchanged_directory_is_read_again(server: DirectoryServer, how: str) -> None:
    server.serve(ADA, BEA, etag='"1"')
    await run_directory()
    if how == "a day later":
        yesterday = cast(Any, DirectoryFile.read_at) - timedelta(days=1)
        await DirectoryFile.update({DirectoryFile.read_at: yesterday}, force=True)
    if how == "another address":
        set_directory(server.address("/others"))
    report = await run_directory(Report(force=how == "force", dry_run=how == "dry_run"))
    assert "if-none-match" not in server.asked[-1]
    assert report.items == 2


async def test_a_version_of_which_a_line_failed_is_read_again(server: DirectoryServer) -> None:
    """Else the next run would say that all is well."""
    server.serve(ADA, {}, etag='"1"')
    assert len((await run_directory()).failures) == 1
    assert len((await run_directory()).failures) == 1


async def test_a_version_before_the_last_is_not_taken_for_the_last(
    server: DirectoryServer,
) -> None:
    server.serve(ADA, BEA, etag='"1"')
    await run_directory()
    server.serve(ADA, {}, etag='"2"')
    await run_directory(Report(force=True))
    server.serve(ADA, BEA, etag='"1"')
    assert (await run_directory()).notes == ["1 taken back."]


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (401, "refuses us (401). Check DIRECTORY_TOKEN"),
        (403, "Check DIRECTORY_TOKEN"),
        (404, "answered 404"),
        (500, "answered 500"),
        (206, "answered 206"),
        (304, "answered 304"),
    ],
)
@pytest.mark.any_version
async def test_other_answers(server: DirectoryServer, status: int, message: str) -> None:
    server.status = status
    server.body = b"canary" if status != 304 else b""
    assert message in await refusal()


@pytest.mark.any_version
async def test_a_compressed_answer_is_refused(server: DirectoryServer) -> None:
    server.headers = {"Content-Encoding": "gzip"}
    server.body = gzip.compress(bytes(10_000_000))
    assert "compressed" in await refusal()


@pytest.mark.any_version
async def test_an_answer_that_breaks_off_is_refused(server: DirectoryServer) -> None:
    server.body = b"email\n" + b"".join(b"p%d@example.com\n" % n for n in range(100))
    server.length = len(server.body) + 1000
    assert "could not be fetched completely" in await refusal()


@pytest.mark.any_version
async def test_a_directory_that_is_too_big_is_refused(
    server: DirectoryServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "BIGGEST", 1024**2)
    server.body = b"email\n" + b"x" * 1024**2
    assert "bigger than 1 MiB" in await refusal()


@pytest.mark.any_version
async def test_a_server_that_says_nothing_is_given_up(
    server: DirectoryServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "SILENCE_SECONDS", 0.1)
    server.pause = 60
    async with asyncio.timeout(10):
        assert "does not answer" in await refusal()


@pytest.mark.any_version
async def test_a_server_that_never_ends_is_given_up(
    server: DirectoryServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "SECONDS", 0.2)
    server.pause = 60
    async with asyncio.timeout(10):
        assert "within 0.2 seconds" in await refusal()


@pytest.mark.any_version
async def test_no_server(server: DirectoryServer) -> None:
    for address in ("http://127.0.0.1:1/", "http://[/", "http://", "https://nobody.invalid/"):
        set_directory(address)
        assert await refusal()
    set_directory(server.address().replace("http:", "https:"))
    assert "could not be fetched" in await refusal()


@pytest.mark.any_version
async def test_redirects_are_followed_and_the_token_stays_with_its_host(
    server: DirectoryServer,
) -> None:
    set_directory(server.address("/old"), directory_token=SecretStr(TOKEN))
    other = server.address("/people").replace("127.0.0.1", "localhost")
    server.redirects = {"/old": "/new", "/new": other}
    assert (await run_directory()).done == 2
    assert [asked.get("authorization") for asked in server.asked] == [f"Bearer {TOKEN}"] * 2 + [
        None
    ]


@pytest.fixture
def encrypted(server: DirectoryServer, tmp_path: Path) -> DirectoryServer:
    """The server with a certificate; an authority that nobody has heard of yet vouches for it."""
    authority = Authority(tmp_path / "authority")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*authority.issue("localhost"))
    server.socket = context.wrap_socket(server.socket, server_side=True)
    set_directory(f"https://localhost:{server.server_port}/people")
    return server


@pytest.mark.any_version
async def test_an_unknown_certificate_is_refused(encrypted: DirectoryServer) -> None:
    assert "could not be fetched completely (ConnectError)" in await refusal()


@pytest.mark.any_version
async def test_a_redirect_does_not_lead_out_of_encryption(
    encrypted: DirectoryServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "authority" / "root.crt"))
    assert (await run_directory()).done == 2
    encrypted.redirects = {"/people": "http://localhost:1/people"}
    assert "without encryption" in await refusal()


@pytest.mark.any_version
@pytest.mark.parametrize(
    "host",
    [
        "localhost", "10.0.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0",
        "[::1]", "[fe80::1]", "[fd00::1]", "[::ffff:127.0.0.1]", "224.0.0.1",
    ],
)  # fmt: skip
async def test_a_redirect_does_not_lead_inside(
    server: DirectoryServer, host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_the_internet(server, monkeypatch)
    server.redirects = {"/people?key=canary": f"http://{host}:{server.server_port}/inside"}
    assert "redirects to an internal address" in await refusal()
    assert [asked["path"] for asked in server.asked] == ["/people?key=canary"]


def on_the_internet(server: DirectoryServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let DIRECTORY_URL name an address that is taken for one of the internet."""
    real = download.is_internal
    monkeypatch.setattr(
        download, "is_internal", lambda address: address != "127.0.0.2" and real(address)
    )
    set_directory(server.address().replace("127.0.0.1", "127.0.0.2"))


@pytest.mark.any_version
@pytest.mark.parametrize("looks", [["127.0.0.2"], [None]])
@pytest.mark.parametrize("start", ["127.0.0.2", "start.example.com"])
async def test_a_name_that_means_another_address_at_the_next_look_does_not_lead_inside(
    server: DirectoryServer, monkeypatch: pytest.MonkeyPatch, looks: list[str | None], start: str
) -> None:
    """A resolver of the server's owner answers the check one thing, and the connection another."""
    on_the_internet(server, monkeypatch)
    real = socket.getaddrinfo
    answers: dict[str, list[str | None]] = {
        "rebinding.example.com": [*looks], "start.example.com": ["127.0.0.1"],
    }  # fmt: skip
    then = {"rebinding.example.com": "127.0.0.1", "start.example.com": "127.0.0.2"}

    def resolve(host: Any, *arguments: Any, **named: Any) -> Any:
        name = host.decode() if isinstance(host, bytes) else host
        if name in answers:
            name = answers[name].pop(0) if answers[name] else then[name]
            if name is None:
                raise socket.gaierror
        return real(name, *arguments, **named)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    set_directory(f"http://{start}:{server.server_port}/people")
    inside = f"http://rebinding.example.com:{server.server_port}/inside"
    server.redirects = {"/people": inside}
    assert "redirects to an internal address" in await refusal()
    assert [asked["path"] for asked in server.asked] == ["/people"]


@pytest.mark.any_version
async def test_nothing_of_a_foreign_answer_is_repeated(server: DirectoryServer) -> None:
    server.body = b"AKIA-canary,secret-canary\nx,y\n"
    assert "no column" in await refusal()


@pytest.mark.any_version
@pytest.mark.parametrize("target", ["/circle", "file:///etc/passwd", "ftp://localhost/", "//["])
async def test_redirects_that_lead_nowhere(server: DirectoryServer, target: str) -> None:
    set_directory(server.address("/circle"))
    server.redirects = {"/circle": target}
    assert await refusal()
    assert len(server.asked) <= 6


@pytest.mark.any_version
async def test_nothing_secret_is_logged(
    server: DirectoryServer, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        await run_directory()
    assert "canary" not in caplog.text


@pytest.mark.any_version
async def test_a_cancelled_run_leaves_nothing_behind(
    server: DirectoryServer, db: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    server.pause = 60
    task = asyncio.create_task(run_directory())
    async with asyncio.timeout(5):
        while not list(tmp_path.iterdir()) or not server.asked:
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert list(tmp_path.iterdir()) == []


@pytest.mark.any_version
async def test_a_run_waits_for_accounts_that_are_being_changed_and_can_be_cancelled(
    db: Engine, url: str, tmp_path: Path
) -> None:
    set_directory(write_json(tmp_path / "people", ADA))
    await run_directory()
    set_directory(write_json(tmp_path / "people", {**ADA, "organization": "Bernoulli"}))
    other = await asyncpg.connect(url)
    transaction = other.transaction()
    await transaction.start()
    await other.execute("UPDATE users SET display_name = 'Countess'")
    task = asyncio.create_task(run_directory())
    waiting = "SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND state = 'active'"
    async with asyncio.timeout(5):
        while not await db.fetch(waiting):
            await asyncio.sleep(0.01)
    task.cancel()
    async with asyncio.timeout(2):
        with pytest.raises(asyncio.CancelledError):
            await task
    await transaction.rollback()
    await other.close()
    assert (await run_directory()).notes == ["1 changed."]
