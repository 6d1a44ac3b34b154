"""Keep a database of the release that is about to be made, as SQL.

Once released it is never made again: that installations of it can be upgraded is tested with it.
"""

from __future__ import annotations

import asyncio
import gzip
import subprocess
import sys
from pathlib import Path

import asyncpg

from tests.audit.trails import FILL, KEY
from tests.conftest import PASSWORD, run_piccolo
from tests.postgres import Server, find_binaries

HOSTILE = "INSERT INTO audit_logs (action, details) VALUES ('thing.happened', $1)"
TEXT = '{"text": "\\"\\\\ é 𝄞 \\u0001", "number": 1.50, "deep": [[[null]]]}'
PEOPLE = ("ada@example.com", "eve@example.com", "mel@example.com")


def run(url: str, *words: str, stdin: str = "") -> None:
    done = run_piccolo(url, *words, stdin=stdin, AUDIT_SEAL_KEY=KEY)
    if done.returncode:
        sys.exit(done.stderr)


async def live(url: str) -> None:
    """Let the database have a life: people, runs, seals, an erasure and a prune."""
    connection = await asyncpg.connect(url)
    await connection.execute(FILL, 1, 200)
    run(url, "audit", "seal")
    for email in PEOPLE:
        superuser = ["--superuser"] if email.startswith("ada") else []
        run(url, "home", "create_user", f"--email={email}", *superuser, "--password-stdin",
            stdin=PASSWORD + "\n")  # fmt: skip
    await connection.execute("UPDATE users SET display_name = 'Mel' WHERE email = $1", PEOPLE[2])
    await connection.execute(
        "INSERT INTO user_preferences (user_id, preferences) VALUES (3, '{\"dark\": true}')"
    )
    await connection.execute("INSERT INTO sync_history (source, status) VALUES ('crm', 'running')")
    await connection.execute("UPDATE sync_history SET status = 'failed', error_message = 'no'")
    await connection.execute(HOSTILE, TEXT)
    run(url, "audit", "seal")
    run(url, "audit", "prune", "--before=2026-01-01", "--yes")
    run(url, "audit", "erase", "--person=2", "--reason=asked", "--yes")
    run(url, "audit", "seal")
    run(url, "audit", "verify")
    await connection.execute(HOSTILE, "{}")  # one that is not sealed
    await connection.close()


def main(version: str) -> None:
    binaries = find_binaries()
    if binaries is None:
        sys.exit("needs an installed PostgreSQL")
    server = Server(binaries)
    server.start()
    try:
        url = server.url()
        run(url, "home", "migrate")
        asyncio.run(live(url))
        dump = ["--inserts", "--no-owner", "--no-privileges", f"--dbname={url}"]
        made = subprocess.run([binaries / "pg_dump", *dump], check=True, capture_output=True)
    finally:
        server.remove()
    # What psql alone understands is left out.
    lines = [line for line in made.stdout.splitlines(True) if not line.startswith(b"\\")]
    path = Path(__file__).parent / f"{version}.sql.gz"
    path.write_bytes(gzip.compress(b"".join(lines), mtime=0))
    print(f"{path.name}: {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main(*sys.argv[1:])
