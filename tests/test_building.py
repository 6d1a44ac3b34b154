"""docs/building.md, followed to the letter in a copy of the checkout, with a browser."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import httpx
import pytest
from playwright.async_api import Page, expect

from home.tables import User
from tests.browser.conftest import browser, page
from tests.browser.test_admin import sign_in
from tests.conftest import PASSWORD, ROOT
from tests.live import running

__all__ = ["browser", "page"]  # fixtures

pytestmark = pytest.mark.any_version

BLOCKS = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
# A file of the page that is whole begins with an import; others are excerpts.
WHOLE = re.compile(r"# (\S+\.py)\n((?:import|from) .*)", re.DOTALL)


def blocks(page: Path) -> Iterator[tuple[str, str]]:
    """Language and text of each code block, in order."""
    for match in BLOCKS.finditer(page.read_text(encoding="utf-8")):
        yield match.group(1), match.group(2)


def copy_of_the_checkout(folder: Path) -> None:
    """What a clone has, and what has not been committed yet, as a repository of its own."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    who = ["-c", "user.name=test", "-c", "user.email=test@example.com"]
    for arguments in (["init", "-q"], ["add", "-A"], [*who, "commit", "-qm", "A release"]):
        subprocess.run(["git", *arguments], cwd=folder, check=True)


class Newcomer:
    """Does what the page says, in a folder of its own."""

    def __init__(self, folder: Path, url: str) -> None:
        copy_of_the_checkout(folder)
        self.folder = folder
        programs = Path(sys.executable).parent
        path = f"{programs}{os.pathsep}{os.environ['PATH']}"
        unset = {name: os.environ[name] for name in os.environ if not name.startswith("PYTEST_")}
        self.env = {**unset, "DATABASE_URL": url, "PATH": path, "PYTHONWARNINGS": "ignore"}
        self.said: list[str] = []

    def follow(self, language: str, text: str) -> None:
        """Run a block of commands, or make the file that a block is."""
        if language == "sh":
            self.run("sh", "-ec", text)
        elif language == "python" and (whole := WHOLE.fullmatch(text)):
            file = self.folder / whole.group(1)
            file.parent.mkdir(exist_ok=True)
            file.write_text(whole.group(2), encoding="utf-8")
        elif language == "python":
            self.find(text)

    def run(self, *command: str) -> None:
        """Run a command, which has to succeed."""
        done = subprocess.run(
            command, cwd=self.folder, env=self.env, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        self.said.append(done.stdout)

    def find(self, text: str) -> None:
        """Hold an excerpt against the file, or the files of the folder, that it is from."""
        first, _, excerpt = text.partition("\n")
        place = self.folder / first.removeprefix("# ")
        files = place.glob("*.py") if place.is_dir() else [place]
        assert any(excerpt in file.read_text(encoding="utf-8") for file in files), first

    def changed(self) -> str:
        """Return what git says of the files that there were before."""
        command = ["git", "diff", "--numstat"]
        return subprocess.run(
            command, cwd=self.folder, capture_output=True, text=True, check=True
        ).stdout


async def test_the_page_to_the_letter(
    url: str, administrator: User, tmp_path: Path, page: Page
) -> None:
    newcomer = Newcomer(tmp_path, url)
    *forwards, back = list(blocks(ROOT / "docs" / "building.md"))
    until_stock = [text for _, text in forwards].index("piccolo app new chores --register\n")
    for language, text in forwards[:until_stock]:
        newcomer.follow(language, text)
    assert newcomer.changed() == "1\t0\tpiccolo_conf.py\n", "more than one line was edited"
    for language, text in forwards[until_stock:]:
        newcomer.follow(language, text)
    with running(url, tmp_path) as live:
        await look_around(page, live.address)
        over_http(live.address)
    database = await asyncpg.connect(url)
    rows = await database.fetch(
        "SELECT action, actor FROM audit_logs WHERE resource = 'inventory_items' ORDER BY id"
    )
    recorded = [tuple(row) for row in rows]
    assert ("inventory_items.update", "system:lending") in recorded
    assert ("inventory_items.insert", "ada@example.com") in recorded
    assert ("inventory_items.returned", "ada@example.com") in recorded
    newcomer.follow(*back)
    for table in ("inventory_items", "chore"):
        assert await database.fetchval("SELECT to_regclass($1)", table) is None
    await database.close()


async def look_around(page: Page, address: str) -> None:
    """What an administrator does in the browser: add a row, borrow it, look at the overview."""
    await sign_in(page, address, "ada@example.com")
    for table in ("inventory_items", "chore"):
        await page.goto(f"{address}/admin/#/{table}")
        await expect(page.get_by_role("heading", name=table.replace("_", " "))).to_be_visible()
    await page.goto(f"{address}/admin/#/inventory_items/add")
    await expect(page.locator("[name=price]")).to_have_value("0")  # the form is complete
    await page.locator("[name=name]").fill("Saw")
    await page.get_by_role("button", name="Create").click()
    await expect(page.get_by_text("Successfully added row")).to_be_visible()
    await page.goto(f"{address}/inventory")
    await page.get_by_role("button", name="Borrow Saw").click()
    await expect(page.get_by_role("status")).to_have_text("It is yours for now.")
    await expect(page.get_by_role("row", name="Saw ada@example.com")).to_be_visible()
    await page.goto(f"{address}/")
    await expect(page.get_by_role("heading", name="Inventory")).to_be_visible()
    await expect(page.get_by_role("heading", name="Chores")).to_be_visible()
    await expect(page.get_by_text("count overdue inventory")).to_be_visible()


def over_http(address: str) -> None:
    """What programs do: the API, its description, and the back office's own API."""
    with httpx.Client(base_url=address, timeout=30) as client:
        body = {"email": "ada@example.com", "password": PASSWORD}
        token = client.post("/api/sign-in", json=body).json()["csrf_token"]
        client.headers["x-csrf-token"] = token
        tables = client.get("/admin/api/tables/").json()
        assert {"inventory_items", "chore"} <= set(tables)
        added = client.post("/api/inventory", json={"name": "Plane", "price": 5})
        assert added.status_code == 201
        assert "/api/inventory" in client.get("/api/openapi.json").json()["paths"]
        [saw] = [
            each for each in client.get("/api/inventory").json()["items"] if each["name"] == "Saw"
        ]
        client.get("/admin/public/meta/")
        client.headers["X-CSRFToken"] = client.cookies["csrftoken"]
        path = "/admin/api/forms/return-to-the-inventory/"
        assert client.post(path, json={"item": saw["id"]}).json() == {
            "custom_form_success": "Saw is back."
        }
        again = client.post(path, json={"item": saw["id"]})
        assert "Nobody has borrowed this item." in again.text
        assert "inventory" in client.get("/metrics").text


def test_two_apps_of_ones_own_and_a_later_release_merge_without_a_conflict(tmp_path: Path) -> None:
    newcomer = Newcomer(tmp_path, "postgresql://nobody@127.0.0.1:1/nothing")
    for name in ("inventory", "payroll"):
        newcomer.run("piccolo", "home", "new_app", name)
    script = """
        git config user.name test; git config user.email test@example.com
        git add -A; git commit -qm "Apps of our own"; ours=$(git rev-parse HEAD)
        git checkout -q -b release HEAD~1
        for file in main.py home/composition.py home/app.py docs/building.md audit/apps.py; do
            printf '\\n# a later release\\n' >> $file
        done
        sed -i '1i # A later release.' piccolo_conf.py
        git commit -qam "A later release"; git checkout -q $ours
        git merge -q --no-edit release > /dev/null
        git diff --name-only --diff-filter=U
    """
    newcomer.run("sh", "-ec", script)
    assert newcomer.said[-1] == ""
