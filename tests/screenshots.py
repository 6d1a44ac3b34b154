"""`make screenshots`: the pictures of the README and the docs, taken from the running application
with two weeks of data in it."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
from pathlib import Path

import asyncpg
from playwright.async_api import Page, async_playwright

from home.accounts.seeds import SEED_PASSWORD
from tests.live import running
from tests.postgres import Server, find_binaries

ROOT = Path(__file__).resolve().parent.parent
# Name, path, and a text that is there once all is. What a checkout does not have is left out.
PICTURES = {
    "overview": ("/", "Audit trail"),
    "people": ("/people", "People"),
    "trail": ("/trail?table=users", "Trail"),
    "change": ("/trail/{change}", "Before"),
    "run": ("/sync/runs/{run}", "synced"),
    "account": ("/account", "Sessions"),
    "users": ("/admin/#/users", "Showing"),
}
WIDTH, HEIGHT = 1280, 800
PEOPLE = """email,display_name,organization
grace@example.com,Grace Hopper,Compilers
hedy@example.com,Hedy Lamarr,Radio
barbara@example.com,Barbara Liskov,Types
annie@example.com,Annie Easley,Rockets
"""
# By the table's owner, with triggers off: what happened then is told below, in the trail.
DATA = """
    SET session_replication_role = replica;
    INSERT INTO users
        (email, password_hash, display_name, organization, is_approved, is_disabled, created_at)
    SELECT lower(split_part(name, ' ', 1)) || n || '@example.com', '', name,
           (ARRAY['Compilers', 'Radio', 'Rockets', 'Types'])[1 + n % 4], n % 8 <> 0, n % 11 = 0,
           now() - n * interval '7 hours'
    FROM unnest(ARRAY[
        'Mary Jackson', 'Jean Bartik', 'Karen Jones', 'Joan Clarke', 'Radia Perlman', 'Lynn Conway',
        'Adele Goldberg', 'Frances Allen', 'Mary Keller', 'Sophie Wilson', 'Carol Shaw',
        'Betty Holberton', 'Kay McNulty', 'Marlyn Wescoff', 'Ruth Teitelbaum', 'Ida Rhodes'
    ]) WITH ORDINALITY AS people (name, n);
    INSERT INTO audit_logs (actor, action, resource, resource_id, ip_address, created_at, details)
    SELECT CASE WHEN n % 9 = 0 THEN 'anonymous' ELSE 'ada@example.com' END,
           CASE WHEN n % 9 = 0 THEN 'sign_in.failed' WHEN n % 3 = 0 THEN 'sign_in.succeeded'
                WHEN n % 7 = 0 THEN 'users.insert' ELSE 'users.update' END,
           'users', (1 + n % 16)::text, '10.1.2.' || n % 9, at,
           CASE WHEN n % 9 > 0 AND n % 3 > 0 AND n % 7 > 0 THEN
               '{"before": {"organization": "Radio"}, "after": {"organization": "Rockets"}}'::jsonb
           END
    FROM (SELECT n, now() - (320 - n) * interval '1 hour' * (0.8 + 0.2 * sin(n)) AS at
          FROM generate_series(1, 319) AS n) AS hours ORDER BY at;
    INSERT INTO sync_history
        (source, status, started_at, completed_at, created_at, duration_ms, items_total,
         items_synced, items_failed, error_message, error_details, needs_attention,
         attention_reason)
    SELECT source, status, at, at + interval '9 s', at, 8000 + n % 5 * 700 + n * 9, 1200,
           CASE status WHEN 'failed' THEN 0 WHEN 'partial' THEN 1197 ELSE 1200 END,
           CASE status WHEN 'partial' THEN 3 ELSE 0 END,
           CASE status WHEN 'failed' THEN 'The directory does not answer: 502 Bad Gateway.'
                       WHEN 'partial' THEN '3 of 1200 items failed, see the error details.' END,
           CASE status WHEN 'partial' THEN
               '{"failures": [{"item": "line 803", "error": "“bob@” is not an e-mail address"}]}'
               ::jsonb END,
           status = 'failed', CASE status WHEN 'failed' THEN 'It failed.' END
    FROM (SELECT n, now() - (168 - n) * interval '2 hours' AS at, source,
                 CASE WHEN n % 37 = 5 OR source = 'slow' AND n = 167 THEN 'failed'
                      WHEN n % 13 = 4 THEN 'partial' ELSE 'succeeded' END AS status
          FROM generate_series(1, 167) AS n, unnest(ARRAY['quick', 'slow']) AS source
          ORDER BY n) AS runs
"""


async def take(address: str, url: str) -> None:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        size = {"width": WIDTH, "height": HEIGHT}
        context = await browser.new_context(
            viewport={"width": size["width"], "height": size["height"]},
            locale="en-GB",
            color_scheme="light",
        )
        page = await context.new_page()
        await page.goto(f"{address}/sign-in")
        await page.get_by_label("E-mail address").fill("ada@example.com")
        await page.get_by_label("Password").fill(SEED_PASSWORD)
        await page.get_by_role("button", name="Sign in").click()
        await page.wait_for_url(f"{address}/")
        run, change = await begun(page, address), await newest_change(url)
        for name, (path, text) in PICTURES.items():
            answer = await page.goto(address + path.format(run=run, change=change))
            if answer is not None and answer.status == 404:
                print(f"left out: {path} is not there")
                continue
            await page.get_by_text(text).first.wait_for()
            if name == "people":
                for box in (await page.get_by_role("checkbox").all())[1:3]:
                    await box.check()
            await page.screenshot(path=ROOT / "docs" / f"{name}.png", full_page=path == "/")
        await browser.close()


async def begun(page: Page, address: str) -> str:
    """Start a run that goes on for as long as pictures are taken; return its number."""
    await page.goto(f"{address}/sync")
    await page.get_by_role("button", name="Run slow", exact=True).click()
    await page.wait_for_url("**/sync/runs/*")
    await page.wait_for_timeout(6_000)
    return page.url.rpartition("/")[2]


async def newest_change(url: str) -> int:
    """Return the number of the newest change of an account."""
    connection = await asyncpg.connect(url)
    found: int = await connection.fetchval(
        "SELECT max(id) FROM audit_logs WHERE action = 'users.update' AND actor LIKE 'cli:%'"
    )
    await connection.close()
    return found


async def fill(url: str) -> None:
    connection = await asyncpg.connect(url)
    await connection.execute(DATA)
    await connection.close()


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
        sources = {"DIRECTORY_URL": str(people), "SYNC_SOURCES": "tests.sync_history.examples"}
        env = {**os.environ, "DATABASE_URL": url, **sources}
        for command in ("home migrate", "home seed"):
            subprocess.run([piccolo, *command.split()], cwd=ROOT, env=env, check=True)
        asyncio.run(fill(url))
        appoint = "home change_permissions --email=jean2@example.com --auditor=yes"
        for command in ("sync_history run directory", appoint, "audit seal", "audit verify"):
            subprocess.run([piccolo, *command.split()], cwd=ROOT, env=env, check=True)
        with running(url, SYNC_SCHEDULER="false", **sources) as live:
            asyncio.run(take(live.address, url))
    finally:
        server.remove()


if __name__ == "__main__":
    main()
