"""The API is what its description says, whatever is sent to it."""

from __future__ import annotations

import re
import subprocess
import sys
from html import unescape
from pathlib import Path

import httpx
import pytest

from home.database.engine import Engine
from home.tables import Session, User
from home.web.curl import EXAMPLES, base_of
from tests.conftest import PASSWORD
from tests.live import running

pytestmark = pytest.mark.any_version

# Signing out, or another password, would end the session that the other requests need.
# A schema cannot say everything (whether a version is the newest), and more headers are no fault.
BLIND = "positive_data_acceptance,negative_data_rejection"
ENDING = ("sign_out", "change_password")
LAST = ("end_other_sessions", *reversed(ENDING))


def schemathesis(address: str, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    program = Path(sys.executable).parent / "schemathesis"
    return subprocess.run(
        [
            program, "--no-color", "run", f"{address}/api/openapi.json",
            "--checks=all", f"--exclude-checks={BLIND}",
            "--seed=1", "--max-examples=15", "--workers=2", *arguments,
        ],
        capture_output=True, text=True, check=False, timeout=240, cwd=folder,
    )  # fmt: skip


async def test_schemathesis_finds_nothing(url: str, member: User, tmp_path: Path) -> None:
    with running(url) as live, httpx.Client(base_url=live.address) as client:
        who = {"email": "mel@example.com", "password": PASSWORD}
        token = client.post("/api/sign-in", json=who).json()["csrf_token"]
        done = schemathesis(
            live.address,
            tmp_path,
            f"--header=Cookie: id={client.cookies['id']}",
            f"--header=X-CSRF-Token: {token}",
            *(f"--exclude-operation-id={name}" for name in ENDING),
        )
        assert done.returncode == 0, done.stdout
        assert client.get("/api/me").status_code == 200  # so it was not all 401


async def test_every_route_of_the_api_is_described(client: httpx.AsyncClient) -> None:
    found = (await client.get("/api/openapi.json")).json()
    assert found["openapi"] == "3.1.0"
    page = (await client.get("/api/docs")).text
    for path, operations in found["paths"].items():
        for method, operation in operations.items():
            assert f"{method.upper()} {path}" in page
            answer = await client.request(method, path, json={})
            expected = {"401", "422"} if operation["security"] else {*operation["responses"]}
            assert str(answer.status_code) in expected


async def test_each_curl_line_of_the_page_does_what_it_says(
    url: str, db: Engine, administrator: User, tmp_path: Path
) -> None:
    """Copied from the page into a shell, one after the other."""
    rights = {"is_approved": True, "is_admin": True}
    ann = await User.create_user(EXAMPLES["email"], EXAMPLES["password"], **rights)
    spare = await Session.create_session(ann.id)
    with running(url, SYNC_SOURCES="tests.sync_history.examples", SYNC_SCHEDULER="false") as live:
        page = live.get("/api/docs").text
        shown = re.findall(r'<pre class="line">(.*?)</pre>', page)
        first, token, *others = [unescape(line) for line in shown]
        paths = live.get("/api/openapi.json").json()["paths"]
        operations = {
            each["operationId"]: each for path in paths.values() for each in path.values()
        }
        lines = dict(zip(operations, others, strict=True))
        for name in ("start_run", "cancel_run", "get_run", "get_log", "end_session", *LAST):
            lines[name] = lines.pop(name)
        written = "-o /dev/null -w ' {} %{{http_code}}\\n'"
        script = [
            "set -eu",
            f"SOURCE=slow SID={spare.sid} ID=1 TABLE=users KEY={ann.id}",
            first,
            token,
        ]
        for name, line in lines.items():
            script += [token] if name == "sign_out" else []  # another password: another token
            script.append(f"{line} {written.format(name)}")
        done = subprocess.run(
            ["bash"],
            input="\n".join(script),
            capture_output=True,
            text=True,
            check=True,
            cwd=tmp_path,
        )
    answered = dict(re.findall(r" (\w+) (\d+)$", done.stdout, re.MULTILINE))
    assert answered.keys() == operations.keys()
    for name, status in answered.items():
        expected = next(each for each in operations[name]["responses"] if each < "300")
        assert status == expected, (name, status, lines[name])


def test_no_host_puts_anything_into_a_line() -> None:
    for host in ('x";rm -rf ~;"', "x$(id)", "x y", "`id`", ""):
        assert base_of("http", host) == "http://localhost"
    assert base_of("https", "tools.example:8443") == "https://tools.example:8443"
