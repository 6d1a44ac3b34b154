"""`make screenshots`: the README's pictures, taken from the running application."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
from pathlib import Path

from playwright.async_api import async_playwright

from home.accounts.seeds import SEED_PASSWORD
from tests.live import running
from tests.postgres import Server, find_binaries

ROOT = Path(__file__).resolve().parent.parent
PICTURES = {
    "users": ("/admin/#/users", "Showing"),
    "form": ("/admin/#/forms/approve-a-person", "Lets somebody in"),
    "trail": ("/admin/#/audit_logs", "Showing"),
    "overview": ("/", "Audit trail"),
}
PEOPLE = """email,display_name,organization
grace@example.com,Grace,Compilers
hedy@example.com,Hedy,Radio
"""


async def take(address: str) -> None:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        page = await browser.new_page(viewport={"width": 1200, "height": 620}, locale="en-GB")
        await page.goto(f"{address}/admin/")
        await page.get_by_label("E-mail address").fill("ada@example.com")
        await page.get_by_label("Password").fill(SEED_PASSWORD)
        await page.get_by_role("button", name="Sign in").click()
        await page.get_by_text("ada@example.com").wait_for()
        for name, (path, text) in PICTURES.items():
            await page.goto(address + path)
            await page.get_by_text(text).first.wait_for()
            await page.screenshot(path=ROOT / "docs" / f"{name}.png", full_page=path == "/")
        await browser.close()


def main() -> None:
    binaries = find_binaries()
    if binaries is None or shutil.which("chromium") is None:
        sys.exit("Screenshots need PostgreSQL and Chromium: apt-get install postgresql-15 chromium")
    server = Server(binaries)
    server.start()
    try:
        url, people = server.url(), server.folder / "people.csv"
        people.write_text(PEOPLE)
        piccolo = str(Path(sys.executable).parent / "piccolo")
        env = {**os.environ, "DATABASE_URL": url, "DIRECTORY_URL": str(people)}
        for command in ("home migrate", "home seed", "sync_history run directory", "audit seal"):
            subprocess.run([piccolo, *command.split()], cwd=ROOT, env=env, check=True)
        with running(url, DIRECTORY_URL=str(people)) as live:
            asyncio.run(take(live.address))
    finally:
        server.remove()


if __name__ == "__main__":
    main()
