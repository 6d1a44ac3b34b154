"""What is written to the log, and what never is."""

from __future__ import annotations

import json
import subprocess
import sys
import timeit
from time import process_time
from typing import Any
from urllib.parse import quote, quote_plus

import pytest

from home.config.redaction import MAX_CHARACTERS, MAX_ITEMS, Redactor
from tests.conftest import ROOT

pytestmark = pytest.mark.any_version

CANARY = 'c4n4ry/ü "x" \'\\ @'
START = """
import logging, sys, warnings
import structlog
from home.config.logs import set_up_logs
set_up_logs(production=%r, level="info", secrets=[%r])
log, secret = structlog.get_logger("groundwork"), %r
"""


def written(code: str, *, production: bool = True) -> str:
    """What a program writes to standard error; it writes nothing else."""
    program = START % (production, CANARY, CANARY) + code
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, check=True)
    assert done.stdout == b""
    return done.stderr.decode()


def entries(code: str) -> list[dict[str, Any]]:
    """One JSON object from each line."""
    return [json.loads(line, parse_constant=pytest.fail) for line in written(code).splitlines()]


def cleaned(**event: object) -> str:
    return str(Redactor([CANARY, "abcd"])(None, "info", event))


@pytest.mark.parametrize(
    "form",
    [
        CANARY,
        quote(CANARY),
        quote(CANARY, ""),
        quote_plus(CANARY),
        quote(CANARY, "").lower(),
        repr(CANARY),
        ascii(CANARY),
        json.dumps(CANARY),
        json.dumps(CANARY, ensure_ascii=False),
        "abcd",
    ],
)
def test_a_secret_is_redacted_in_any_form(form: str) -> None:
    for event in (f"before {form} after", form, form * 3):
        assert "c4n4ry" not in cleaned(event=event)
        assert "abcd" not in cleaned(event=event)
    assert "after" in cleaned(event=f"before {form} after")


@pytest.mark.parametrize(
    "value",
    [
        [CANARY],
        (CANARY, [CANARY]),
        {CANARY},
        {"deep": {"deeper": [CANARY]}},
        {CANARY: 1},
        ValueError(CANARY),
        CANARY.encode(),
        type("Thing", (), {"__repr__": lambda thing: CANARY})(),
    ],
)
def test_a_secret_is_redacted_wherever_it_hides(value: object) -> None:
    assert "c4n4ry" not in cleaned(value=value)
    assert "***" in cleaned(value=value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("postgresql://ada:pw@db/x", "postgresql://***@db/x"),
        ("postgresql://ada:p/w?#@db/x", "postgresql://***@db/x"),
        ("postgresql://ada:p@w@db/x", "postgresql://***@db/x"),
        ("redis://:pw@cache:6379", "redis://***@cache:6379"),
        ("https://token@example.com/a", "https://***@example.com/a"),
        ("<amqp://a:b@one> <amqp://c:d@two>", "<amqp://***@one> <amqp://***@two>"),
        (
            "postgresql:///x?user=ada&password=pw&port=1",
            "postgresql:///x?user=ada&password=***&port=1",
        ),
        ("host=db password=pw user=ada", "host=db password=*** user=ada"),
        ("http://127.0.0.1:8000/admin/", "http://127.0.0.1:8000/admin/"),
        ("ada@example.com", "ada@example.com"),
    ],
)
def test_credentials_in_any_url_are_redacted(text: str, expected: str) -> None:
    assert Redactor([])(None, "info", {"event": text}) == {"event": expected}


@pytest.mark.parametrize(
    "unit", ["://x:", "://x:y@", "://@", "://x/", "password=", "a" * 99 + "://"]
)
def test_the_work_grows_with_the_text_and_not_with_its_square(unit: str) -> None:
    quarter, whole = (unit * (characters // len(unit)) for characters in (15_000, 60_000))

    def seconds(text: str) -> float:  # of this process
        return timeit.timeit(lambda: Redactor([]).clean(text, 10**6), process_time, number=3)

    # The fastest of neighbours in time, since other programs use the machine, too.
    tries = [(seconds(quarter), seconds(whole)) for _ in range(25)]
    fastest_quarter, fastest_whole = map(min, zip(*tries, strict=True))
    assert fastest_whole / fastest_quarter < 8  # four times the work; squared, sixteen times


@pytest.mark.parametrize(
    ("length", "expected"),
    [
        (100, 100),
        (MAX_CHARACTERS, MAX_CHARACTERS),
        (MAX_CHARACTERS + 1, MAX_CHARACTERS + 1),
        (10**6, MAX_CHARACTERS + 1),
    ],
)
def test_long_texts_are_cut(length: int, expected: int) -> None:
    for value in ("x" * length, b"x" * length, "ü" * length, ("ü" * length).encode()):
        for shown in (Redactor([]).clean(value), Redactor([CANARY]).clean(value)):
            assert isinstance(shown, str)
            assert len(shown) == expected
            assert shown.endswith("…") == (length > MAX_CHARACTERS)


def test_long_lists_are_cut() -> None:
    for value in (list(range(500)), dict.fromkeys(range(500)), set(range(500))):
        shown = Redactor([]).clean(value)
        assert isinstance(shown, list | dict)
        assert len(shown) == MAX_ITEMS + 1
        assert "…" in shown


@pytest.mark.parametrize(
    ("secret", "tail"),
    [
        (CANARY, " and so on" * 200),
        ("abcd" * 30, ""),
        ("postgresql://ada:" + "c4n4ry" * 3 + "@db", "/x" * 2000),
        ("postgresql://ada:" + "c4n4ry" * 3000, "@db"),
        ("password=" + "c4n4ry" * 3, " and so on" * 200),
    ],
)
def test_no_part_of_a_secret_is_left_where_a_text_is_cut(secret: str, tail: str) -> None:
    redactor = Redactor([CANARY, "abcd" * 30])
    for before in range(MAX_CHARACTERS - 150, MAX_CHARACTERS + 50):
        for start in ("", f"{CANARY} " * 100):  # which gets shorter
            text = f"{start.ljust(before - 1, '-')} {secret}{tail}"
            shown = str(redactor.clean(text))
            for part in ("c4n4", "4n4ry", "bcda", "dabc"):
                assert part not in shown, (before, shown[-100:])


def test_what_is_no_secret_is_left_as_it_is() -> None:
    event = {"event": "ready", "size": 3, "ms": 0.5, "ok": True, "none": None, "in": [1, {"a": 2}]}
    assert Redactor([CANARY, "rea", ""])(None, "info", dict(event)) == event


@pytest.mark.parametrize("production", [True, False])
def test_no_secret_in_messages_fields_and_tracebacks_of_any_logger(production: bool) -> None:
    output = written(
        """
log.info(f"connecting with {secret}", field=secret, nested=[{"dsn": f"x://ada:{secret}@db"}])
logging.getLogger("uvicorn.error").warning("failed with %s", secret)
logging.getLogger("asyncpg").error("failed", extra={"field": secret})
warnings.warn(f"careful with {secret}")
try:
    raise ValueError(secret)
except ValueError as error:
    log.exception("failed", error=error)
    logging.getLogger("asyncio").exception("failed too")
""",
        production=production,
    )
    assert output.count("ValueError") == 3
    assert "careful with ***" in output
    assert "failed with ***" in output
    assert "c4n4ry" not in output


def test_production_writes_one_json_object_a_line() -> None:
    lines = entries(
        """
log.info("two\\nlines", text="a\\r\\nb\\u2028c\\x1b[31m", number=float("nan"))
log.info("odd", key={1: {2}, (3,): b"4", None: object}, text="\\ud800")
log.info("positional %s", "argument")
try:
    raise ValueError("two\\nlines")
except ValueError:
    log.exception("failed")
logging.getLogger("other").warning("two\\nlines %s", {"a": "\\n"})
logging.getLogger("uvicorn.error").info("started")
"""
    )
    events = [line["event"] for line in lines]
    assert events[3:] == ["failed", "two\\nlines {'a': '\\n'}", "started"]
    assert [line["level"] for line in lines] == ["info"] * 3 + ["error", "warning", "info"]
    assert [line["logger"] for line in lines[3:]] == ["groundwork", "other", "uvicorn.error"]
    assert all(line["timestamp"].endswith("Z") for line in lines)
    assert lines[3]["exception"].startswith("Traceback (most recent call last):\n")


@pytest.mark.parametrize(
    "hostile",
    ["\n2026-01-01 [info] forged", "\r", "\x1b[31m", "\x9b31m", "\u2028", "\u202e", "\x00", "\x7f"],
)
def test_the_outside_world_cannot_forge_lines_or_colours(hostile: str) -> None:
    code = f"""
hostile = {hostile!r}
log.info(f"who? {{hostile}}", name=hostile, nested={{"name": [hostile]}})
logging.getLogger("uvicorn.error").info("path %s", hostile)
"""
    output = written(code, production=False)
    assert len(output.split("\n")) == 3
    assert output.replace("\n", "").isprintable()
    shown = hostile.encode("unicode_escape").decode()
    assert output.count(shown) >= 4


def test_an_exception_may_have_lines_but_no_escapes() -> None:
    code = """
try:
    raise ValueError("first\\nsecond\\x1b[31m")
except ValueError:
    log.exception("failed")
"""
    output = written(code, production=False)
    assert "ValueError: first\nsecond\\x1b[31m" in output
    assert "\x1b" not in output


def test_only_what_is_as_important_as_the_level_is_written() -> None:
    events = entries(
        """
log.debug("no")
logging.getLogger("other").debug("no")
logging.getLogger("uvicorn.access").info("no")
log.info("yes")
"""
    )
    assert [event["event"] for event in events] == ["yes"]
