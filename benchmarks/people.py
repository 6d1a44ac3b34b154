"""Two hundred signed-in people, known to each program in its own way, and their requests."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from benchmarks import install, programs
from benchmarks.bench import Bench
from benchmarks.process import Program, timed
from benchmarks.tools import PEERS, ROOT, BenchmarkError, environment, find

PEOPLE = 200
CONNECTIONS = 32
SECRET = "only for this benchmark"
USERS = f"""
    INSERT INTO users (email, password_hash, is_approved)
    SELECT 'p' || n || '@example.com', '', true FROM generate_series(1, {PEOPLE}) n
"""
SESSIONS = f"""
    INSERT INTO sessions (sid, user_id, sess, expire, max_expire, last_seen_at)
    SELECT encode(sha256(('token' || n)::bytea), 'hex'), n, '{{}}', now() + interval '8 hours',
           now() + interval '8 hours', now()
    FROM generate_series(1, {PEOPLE}) n
"""
EXPRESS_SESSIONS = f"""
    CREATE TABLE session (
        sid varchar PRIMARY KEY, sess json NOT NULL, expire timestamp(6) NOT NULL);
    CREATE INDEX ON session (expire);
    INSERT INTO session
    SELECT 'token' || n, json_build_object('userId', n, 'cookie', json_build_object(
               'originalMaxAge', 86400000, 'expires', now() + interval '1 day',
               'httpOnly', true, 'path', '/')),
           now() + interval '1 day'
    FROM generate_series(1, {PEOPLE}) n
"""
DJANGO_SESSIONS = f"""
from django.contrib.sessions.backends.db import SessionStore
for number in range(1, {PEOPLE} + 1):
    session = SessionStore()
    session["user_id"] = number
    session.save()
    print(session.session_key)
"""
WITHOUT_TRIGGERS = """
    DROP TRIGGER audit_insert ON user_preferences; DROP TRIGGER audit_row ON user_preferences
"""


@dataclass(frozen=True)
class Contestant:
    """A program, and the header lines with which each of the people asks it."""

    program: Program
    headers: Sequence[dict[str, str]]

    def rate(self, wrk: str, path: str, method: str, seconds: float, logs: Path) -> float:
        """Requests per second of 32 connections; a PUT sends something new each time.

        Raises:
            BenchmarkError: an answer was no 200.
        """
        script = logs / "people.lua"
        script.write_text(_lua(self.headers, method))
        url = self.program.url.replace("/api/health", path)
        command = [wrk, "-t1", f"-c{CONNECTIONS}", f"-d{seconds:g}s", "--timeout", "10s"]
        command += ["-s", str(script), url]
        output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        found = re.search(r"Requests/sec:\s+([\d.]+)", output)
        if found is None or "Non-2xx" in output or "Socket errors" in output:
            raise BenchmarkError(f"{self.program.name} did not answer all requests:\n{output}")
        return float(found.group(1))


def _lua(headers: Sequence[dict[str, str]], method: str) -> str:
    rows = ["{" + ", ".join(f"[{json.dumps(k)}] = {json.dumps(v)}" for k, v in each.items()) + "}"
            for each in headers]  # fmt: skip
    body = """'{"theme": "t' .. n .. '"}'""" if method == "PUT" else "nil"
    return f"""
        local headers = {{ {", ".join(rows)} }}
        local n = 0
        request = function()
            n = n + 1
            return wrk.format("{method}", nil, headers[n % #headers + 1], {body})
        end
    """


def tokens() -> list[str]:
    return [f"token{number}" for number in range(1, PEOPLE + 1)]


def ours(bench: Bench, url: str) -> Contestant:
    """People, sessions and their CSRF tokens in a database of ours."""
    make(bench, url)
    csrf = [hashlib.sha256(f"csrf of {token}".encode()).hexdigest() for token in tokens()]
    headers = [
        {"Cookie": f"id={token}", "X-CSRF-Token": each, "Content-Type": "application/json"}
        for token, each in zip(tokens(), csrf, strict=True)
    ]
    program = programs.ours(url)
    program.variables["ENVIRONMENT"] = "development"  # plain http
    return Contestant(program, headers)


def floor(bench: Bench, url: str) -> Contestant:
    """The same tables; it records changes itself."""
    make(bench, url)
    bench.server.query(WITHOUT_TRIGGERS, url.rpartition("/")[2])
    headers = [{"Cookie": f"id={token}"} for token in tokens()]
    return Contestant(programs.with_uvicorn("floor: one statement", "floor", url), headers)


def express(bench: Bench, url: str) -> Contestant:
    """The same tables, and connect-pg-simple's; cookies are signed as cookie-signature does."""
    make(bench, url)
    bench.server.query(WITHOUT_TRIGGERS, url.rpartition("/")[2])
    bench.server.query(EXPRESS_SESSIONS, url.rpartition("/")[2])
    headers = [
        {"Cookie": f"connect.sid={quote(_signed(token))}", "Content-Type": "application/json"}
        for token in tokens()
    ]
    program = programs.express(url, bench.say)
    program.variables["SESSION_SECRET"] = SECRET
    return Contestant(program, headers)


def django(bench: Bench, url: str) -> Contestant:
    """Tables by its own migrations, sessions and changes by its usual apps."""
    python = str(install.django(bench.say) / "python")
    variables = programs.django_variables(url)
    variables["DJANGO_SETTINGS_MODULE"] = "project.usual_settings"
    log = bench.logs / "django-people.log"
    timed((python, "manage.py", "migrate"), PEERS / "django", log, **variables)
    bench.server.query(USERS, url.rpartition("/")[2])
    done = subprocess.run(
        [python, "manage.py", "shell", "--no-imports", "-c", DJANGO_SESSIONS],
        cwd=PEERS / "django", env=environment(**variables), capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    program = programs.django(url, bench.say)
    program.variables.update(variables)
    keys = done.stdout.split()[-PEOPLE:]
    return Contestant(program, [{"Cookie": f"sessionid={key}"} for key in keys])


def make(bench: Bench, url: str) -> None:
    """Our tables with people and sessions."""
    log = bench.logs / "people.log"
    timed((programs.piccolo(), "home", "migrate"), ROOT, log, DATABASE_URL=url, LOG_LEVEL="error")
    for sql in (USERS, SESSIONS):
        bench.server.query(sql, url.rpartition("/")[2])


def _signed(token: str) -> str:
    mac = hmac.new(SECRET.encode(), token.encode(), hashlib.sha256).digest()
    return f"s:{token}.{base64.b64encode(mac).decode().rstrip('=')}"


def wrk() -> str:
    return find("wrk")
