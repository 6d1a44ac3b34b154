"""The API is what its description says, whatever is sent to it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from home.tables import User
from tests.conftest import PASSWORD
from tests.live import running

pytestmark = pytest.mark.any_version

# Signing out, or another password, would end the session that the other requests need.
# A schema cannot say everything (whether a version is the newest), and more headers are no fault.
BLIND = "positive_data_acceptance,negative_data_rejection"
ENDING = ("sign_out", "change_password")


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
