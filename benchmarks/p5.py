"""P5: all migrations on an empty database, the whole process."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from benchmarks import install
from benchmarks.bench import Bench
from benchmarks.process import timed
from benchmarks.programs import django_variables, piccolo
from benchmarks.report import Goal, Row, Unit, compare
from benchmarks.tools import PEERS, ROOT, find

ROUNDS = 5
GOALS = {
    "Django, with sessions and auditlog": Goal(0.9, "below"),
    "node-pg-migrate": Goal(1, "below"),
}
TABLES = ("users", "user_preferences", "sessions", "audit_logs", "audit_seals", "sync_history")
OURS = "Groundwork, forwards all"
COLUMNS = f"""
    SELECT attrelid::regclass, attname, format_type(atttypid, atttypmod)
    FROM pg_attribute
    WHERE attrelid::regclass::text IN {TABLES} AND attnum > 0 AND NOT attisdropped
"""
FORWARDS = (piccolo(), "migrations", "forwards", "all")

# What the stories ask of the inside of the process, in milliseconds.
STORIES = {
    "acquire": ("a connection from the pool", "stories: under 5 ms"),
    "forwards": ("forwards, inside", "stories: about 200 ms"),
    "verify": ("verification, inside", "stories: 50 ms"),
    "backwards": ("backwards, inside", "stories: 150 ms"),
}


@dataclass(frozen=True)
class Migrator:
    """A command that builds tables in the database of `DATABASE_URL`."""

    name: str
    command: tuple[str, ...]
    folder: Path
    variables: Callable[[str], dict[str, str]] = field(
        default=lambda url: {"DATABASE_URL": url, "LOG_LEVEL": "warning"}
    )


def run(bench: Bench) -> list[Row]:
    """Rounds alternate between the programs; a first round, unmeasured, fills the caches."""
    migrators = _migrators(bench)
    samples: dict[str, list[float]] = {migrator.name: [] for migrator in migrators}
    columns: dict[str, set[tuple[str, ...]]] = {}
    for number in range(ROUNDS + 1):
        for migrator in migrators:
            bench.say(f"P5: round {number} of {ROUNDS}, {migrator.name}")
            with bench.server.empty_database("migrated") as url:
                variables = migrator.variables(url)
                log = bench.logs / "migrate.log"
                took = timed(migrator.command, migrator.folder, log, **variables)
                if number == 0:
                    found = bench.server.query(COLUMNS, "migrated")
                    columns[migrator.name] = {tuple(row) for row in found}
                else:
                    samples[migrator.name].append(took)
    _warn_of_differences(bench, columns)
    rows = compare("P5", "s", samples, GOALS)
    return rows + _our_other_commands(bench)


def _migrators(bench: Bench) -> list[Migrator]:
    node = install.node_peer("node_pg_migrate", bench.say)
    node_pg_migrate = str(node / "node_modules" / ".bin" / "node-pg-migrate")
    find("node")
    python = str(install.django(bench.say) / "python")
    django, django_folder = (python, "manage.py", "migrate"), PEERS / "django"
    npm = (find("npm"), "run", "migrate", "up")
    return [
        Migrator(OURS, FORWARDS, ROOT),
        Migrator("Django, only these tables", django, django_folder, django_variables),
        Migrator("Django, with sessions and auditlog", django, django_folder, usual_django),
        Migrator("node-pg-migrate", (node_pg_migrate, "up"), node),
        Migrator("node-pg-migrate by way of npm run", npm, node),
        Migrator("stock Piccolo, one table", FORWARDS, PEERS / "stock_piccolo"),
    ]


def usual_django(url: str) -> dict[str, str]:
    """The settings of a project that has Django's usual apps and an audit trail."""
    return django_variables(url) | {"DJANGO_SETTINGS_MODULE": "project.usual_settings"}


def _warn_of_differences(bench: Bench, columns: dict[str, set[tuple[str, ...]]]) -> None:
    """The peers are to build the same tables: say so when ours have moved on."""
    ours = next(iter(columns.values()))
    for name in GOALS:
        different = sorted({".".join(row[:2]) for row in ours ^ columns[name]})
        if different:
            bench.note(f"Note: {name} builds other columns: {', '.join(different)}")


def _our_other_commands(bench: Bench) -> list[Row]:
    """Our backwards and verify, as whole processes and inside."""
    verify, backwards = "Groundwork, home verify", "Groundwork, backwards all"
    commands = {
        verify: (piccolo(), "home", "verify"),
        backwards: (piccolo(), "migrations", "backwards", "all", "--auto_agree"),
    }
    samples: dict[str, list[float]] = {name: [] for name in commands}
    inside: dict[str, list[float]] = {name: [] for name in STORIES}
    log = bench.logs / "ours.log"
    for number in range(ROUNDS):
        bench.say(f"P5: round {number + 1} of {ROUNDS}, our other commands")
        with bench.server.empty_database("ours") as url:
            timed(FORWARDS, ROOT, log, DATABASE_URL=url)
            for name, command in commands.items():
                samples[name].append(timed(command, ROOT, log, DATABASE_URL=url))
        with bench.server.empty_database("inside") as url:
            command = (sys.executable, "-m", "benchmarks.inside")
            timed(command, ROOT, log, DATABASE_URL=url, LOG_LEVEL="error")
            last_line = log.read_text().splitlines()[-1]
            for name, milliseconds in json.loads(last_line).items():
                inside[name].append(milliseconds)
    rows = [_plain(name, values, "s") for name, values in samples.items()]
    for name, (program, story) in STORIES.items():
        rows.append(_plain(f"Groundwork, {program}", inside[name], "ms", story))
    return rows


def _plain(program: str, values: list[float], unit: Unit, goal: str = "") -> Row:
    return Row("P5", program, median(values), unit, values, goal=goal)
