"""P10: our pages with 10 million rows of the trail, 100,000 people and runs, and a thousandth."""

from __future__ import annotations

import subprocess
import time
from contextlib import ExitStack
from dataclasses import dataclass
from statistics import median

import httpx

from benchmarks import install, programs
from benchmarks.bench import Bench
from benchmarks.people import ours
from benchmarks.process import Program, timed
from benchmarks.report import Goal, Row
from benchmarks.tools import PEERS, environment

ROUNDS = 5
REQUESTS = 20
MOST_MILLISECONDS = 50
SMALL = Goal(1.5, "at most")
DJANGO = Goal(0.2, "at most")  # five times as fast
SEARCHED = "name42"
PAGES = {
    "overview": "/",
    "people who wait": "/people",
    "people, searched": f"/people?group=all&q={SEARCHED}",
    "a person": "/people/77",
    "trail": "/trail",
    "trail, three filters": "/trail?person=p7%40example.com&column=display_name&last=7",
    "trail, a rare column": "/trail?column=is_admin",
    "a change": "/trail/77",
    "a record's life": "/trail/of/users/77",
    "seals": "/trail/seals",
    "syncs": "/sync",
    "failed runs": "/sync?status=failed",
    "runs of a source": "/sync/source3",
}
# Each statement is given how many trail rows, people and runs there are to be.
PEOPLE = """
    INSERT INTO users (email, password_hash, display_name, is_approved, is_disabled)
    SELECT 'q' || n || '@example.com', '', 'Name' || n % 5000 || ' Family' || n % 300,
           n % 120 <> 0, n % 10 = 1
    FROM generate_series(1, {people}) n
"""
TRAIL = """
    INSERT INTO audit_logs (user_id, actor, action, resource, resource_id, details,
                            is_admin_action, ip_address, request_id, created_at)
    SELECT 1 + n % 200, 'p' || 1 + n % 200 || '@example.com',
           CASE WHEN n % 20 = 3 THEN 'sign_in.failed' ELSE 'users.update' END,
           CASE WHEN n % 20 = 3 THEN 'sign_in' ELSE 'users' END, n % ({people} + 200),
           CASE WHEN n % 1000 = 7
                THEN '{{"before": {{"is_admin": false}}, "after": {{"is_admin": true}}}}'
                ELSE '{{"before": {{"display_name": "x"}}, "after": {{"display_name": "y"}}}}'
           END::jsonb,
           n % 7 = 0, '10.' || n % 200 || '.2.3', md5((n / 3)::text),
           now() - ({rows} - n) * interval '5 seconds'
    FROM generate_series(1, {rows}) AS n
"""
RUNS = """
    INSERT INTO sync_history (source, status, started_at, completed_at, duration_ms, items_synced)
    SELECT 'source' || n % 5, (ARRAY['succeeded', 'succeeded', 'partial', 'failed'])[1 + n % 4],
           at, at + interval '9 seconds', 9000 + n % 1000, n % 500
    FROM (SELECT n, now() - ({runs} - n) * interval '5 minutes' AS at
          FROM generate_series(1, {runs}) n) AS x
"""
BECOME_SUPERUSER = "UPDATE users SET is_admin = true, is_superuser = true WHERE id = 1"
DJANGO_PEOPLE = """
    INSERT INTO auth_user (username, email, password, first_name, last_name, is_active, is_staff,
                           is_superuser, date_joined)
    SELECT 'q' || n, 'q' || n || '@example.com', '', 'Name' || n % 5000, 'Family' || n % 300,
           true, false, false, now()
    FROM generate_series(1, {people}) n
"""
DJANGO_SUPERUSER = """
from django.contrib.auth import get_user_model
from django.test import Client
client = Client()
client.force_login(get_user_model().objects.create_superuser("ada", "ada@example.com", "x"))
print(client.cookies["sessionid"].value)
"""


@dataclass(frozen=True)
class Size:
    """How much there is of everything."""

    rows: int
    people: int
    runs: int

    def __str__(self) -> str:
        return f"{self.rows:,} rows"


LARGE, A_THOUSANDTH = Size(10_000_000, 100_000, 100_000), Size(10_000, 100, 100)


def run(bench: Bench) -> list[Row]:
    """All are served side by side and asked in turn; figures are medians of single requests."""
    samples: dict[tuple[str, str], list[float]] = {}
    with ExitStack() as stack:
        asked: list[tuple[str, httpx.Client, dict[str, str]]] = []
        for size in (LARGE, A_THOUSANDTH):
            url = stack.enter_context(bench.server.empty_database(f"p10_{size.rows}"))
            client = stack.enter_context(_ours(bench, stack, url, size))
            asked.append((str(size), client, PAGES))
        url = stack.enter_context(bench.server.empty_database("p10_django"))
        searched = {"people, searched": f"/admin/auth/user/?q={SEARCHED.title()}"}
        asked.append(("Django's admin", stack.enter_context(_django(bench, stack, url)), searched))
        for number in range(ROUNDS):
            bench.say(f"P10: round {number + 1} of {ROUNDS}")
            for page in PAGES:
                for name, client, pages in asked:
                    if page in pages:
                        taken = _milliseconds(client, pages[page])
                        samples.setdefault((page, name), []).append(taken)
    return [row for page in PAGES for row in _rows(page, samples)]


def _rows(page: str, samples: dict[tuple[str, str], list[float]]) -> list[Row]:
    ours = samples[page, str(LARGE)]
    goal, met = f"at most {MOST_MILLISECONDS} ms", median(ours) <= MOST_MILLISECONDS
    rows = [Row("P10", f"{page}, {LARGE}", median(ours), "ms", ours, None, goal, met)]
    for name, bound in ((str(A_THOUSANDTH), SMALL), ("Django's admin", DJANGO)):
        if theirs := samples.get((page, name)):
            ratio = median(a / b for a, b in zip(ours, theirs, strict=True))
            figure, met = median(theirs), bound.is_met(ratio)
            named = f"{page}, {name}"
            rows.append(Row("P10", named, figure, "ms", theirs, ratio, str(bound), met))
    return rows


def _ours(bench: Bench, stack: ExitStack, url: str, size: Size) -> httpx.Client:
    """People as in P2, of whom the first becomes a superuser, and much more of everything."""
    contestant = ours(bench, url)
    database = url.rpartition("/")[2]
    bench.say(f"P10: making {size}")
    counts = {"rows": size.rows, "people": size.people, "runs": size.runs}
    without_triggers = "SET session_replication_role = replica; "  # one would end the session
    for statement in (BECOME_SUPERUSER, PEOPLE, TRAIL, RUNS):
        bench.server.query(without_triggers + statement.format(**counts), database)
    seal = [programs.piccolo(), "audit", "seal"]  # the overview counts sealed rows once
    variables = environment(DATABASE_URL=url, LOG_LEVEL="error", PYTHONWARNINGS="ignore")
    subprocess.run(seal, env=variables, check=True, stdout=subprocess.DEVNULL)
    bench.server.query("VACUUM ANALYZE", database)
    return _client(bench, stack, contestant.program, contestant.headers[0])


def _django(bench: Bench, stack: ExitStack, url: str) -> httpx.Client:
    """Its admin, with as many people of its own."""
    python = str(install.django(bench.say) / "python")
    variables = programs.django_variables(url)
    variables["DJANGO_SETTINGS_MODULE"] = "project.admin_settings"
    timed((python, "manage.py", "migrate"), PEERS / "django", bench.logs / "p10.log", **variables)
    database = url.rpartition("/")[2]
    bench.server.query(DJANGO_PEOPLE.format(people=LARGE.people), database)
    bench.server.query("VACUUM ANALYZE", database)
    done = subprocess.run(
        [python, "manage.py", "shell", "--no-imports", "-c", DJANGO_SUPERUSER],
        cwd=PEERS / "django", env=environment(**variables), capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    program = programs.django(url, bench.say)
    program.variables.update(variables)
    session = done.stdout.split()[-1]
    return _client(bench, stack, program, {"Cookie": f"sessionid={session}"})


def _client(
    bench: Bench, stack: ExitStack, program: Program, headers: dict[str, str]
) -> httpx.Client:
    stack.enter_context(program.started(bench.logs))
    address = program.url.removesuffix("/api/health")
    return httpx.Client(base_url=address, headers=headers, timeout=60, trust_env=False)


def _milliseconds(client: httpx.Client, path: str) -> float:
    """Return the median of some requests, one after the other."""
    times = []
    for _ in range(REQUESTS):
        began = time.perf_counter()
        answer = client.get(path)
        times.append((time.perf_counter() - began) * 1000)
        answer.raise_for_status()
        if answer.is_redirect:
            raise RuntimeError(f"{path} leads to {answer.headers['location']}")
    return sorted(times)[REQUESTS // 2]
