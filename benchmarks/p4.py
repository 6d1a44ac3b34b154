"""P4: audit list and overview of the back office, ten million rows against ten thousand."""

from __future__ import annotations

import secrets
import subprocess
import time
from contextlib import ExitStack
from dataclasses import replace

import httpx

from benchmarks import programs
from benchmarks.bench import Bench
from benchmarks.report import Goal, Row, compare
from benchmarks.tools import environment

SMALL, LARGE = 10_000, 10_000_000
ROUNDS = 5
REQUESTS = 30
EMAIL = "ada@example.com"
LIST = "/admin/api/tables/audit_logs/"
ORDER = "__page=1&__page_size=15&__order=-created_at,-id&__readable=true"
FILTER = "action=users.update&action__match=exact"
PAGES = {
    "first page": f"{LIST}?{ORDER}",
    "filtered page": f"{LIST}?{ORDER}&{FILTER}",
    "count": f"{LIST}count/",
    "filtered count": f"{LIST}count/?{FILTER}",
    "overview": "/",
}
# Ten actions in even parts, a hundred people, a row a second.
FILL = """
    INSERT INTO audit_logs (actor, action, resource, resource_id, details, is_admin_action,
                            created_at)
    SELECT 'person' || n % 100 || '@example.com',
           (ARRAY['users.update', 'users.insert', 'sessions.insert', 'sessions.delete',
                  'sign_in.succeeded', 'sign_in.failed', 'sign_out', 'sync_history.insert',
                  'sync_history.update', 'user_preferences.update'])[n % 10 + 1],
           'users', n % 5000, '{{"before": {{"name": "x"}}, "after": {{"name": "y"}}}}', n % 7 = 0,
           now() - ({rows} - n) * interval '1 second'
    FROM generate_series(1, {rows}) AS n
"""


def run(bench: Bench) -> list[Row]:
    """Both sizes are served side by side and asked in turn; figures are medians of requests."""
    samples: dict[str, dict[str, list[float]]] = {page: {} for page in PAGES}
    with ExitStack() as stack:
        clients = {}
        for rows in (LARGE, SMALL):
            url = stack.enter_context(bench.server.empty_database(f"rows_{rows}"))
            bench.say(f"P4: making {rows:,} rows")
            password = _fill(bench, url, rows)
            program = replace(programs.ours(url), name=f"{rows:,} rows")
            program.variables["ENVIRONMENT"] = "development"  # cookies over http
            stack.enter_context(program.started(bench.logs))
            address = program.url.removesuffix("/api/health")
            clients[rows] = stack.enter_context(httpx.Client(base_url=address))
            _sign_in(clients[rows], password)
        for number in range(ROUNDS):
            bench.say(f"P4: round {number + 1} of {ROUNDS}")
            for page, path in PAGES.items():
                for rows, client in clients.items():
                    samples[page].setdefault(f"{page}, {rows:,} rows", []).append(
                        _milliseconds(client, path)
                    )
    return [row for page in PAGES for row in _compare(page, samples[page])]


def _compare(page: str, samples: dict[str, list[float]]) -> list[Row]:
    return compare("P4", "ms", samples, {f"{page}, {SMALL:,} rows": Goal(1.5, "at most")})


def _fill(bench: Bench, url: str, rows: int) -> str:
    """Returns the password of an administrator."""
    password = secrets.token_urlsafe(15)
    variables = environment(DATABASE_URL=url, LOG_LEVEL="error", PYTHONWARNINGS="ignore")
    for arguments, stdin in (
        (["home", "migrate"], ""),
        (["home", "create_user", f"--email={EMAIL}", "--password-stdin"], password),
    ):
        command = [programs.piccolo(), *arguments]
        subprocess.run(
            command, input=stdin, text=True, env=variables, check=True, stdout=subprocess.DEVNULL
        )
    database = url.rpartition("/")[2]
    bench.server.query(FILL.format(rows=rows), database)
    seal = [programs.piccolo(), "audit", "seal"]  # the overview counts sealed rows once
    subprocess.run(seal, env=variables, check=True, stdout=subprocess.DEVNULL)
    bench.server.query("VACUUM ANALYZE", database)
    return password


def _sign_in(client: httpx.Client, password: str) -> None:
    client.get("/admin/public/meta/")
    client.headers["X-CSRFToken"] = client.cookies["csrftoken"]
    client.headers["Origin"] = str(client.base_url).rstrip("/")
    body = {"username": EMAIL, "password": password}
    client.post("/admin/public/login/", json=body).raise_for_status()


def _milliseconds(client: httpx.Client, path: str) -> float:
    """The median of some requests, one after the other."""
    times = []
    for _ in range(REQUESTS):
        began = time.perf_counter()
        client.get(path).raise_for_status()
        times.append((time.perf_counter() - began) * 1000)
    return sorted(times)[REQUESTS // 2]
