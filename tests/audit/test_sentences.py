"""Rows of the trail in words."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from audit.app import APP
from audit.apps import AppRegistry
from audit.database import Queries
from audit.lines import line
from audit.sentences import Words, actor_in_words, tell, value
from home.accounts.in_the_trail import WORDS


def row(action: str, details: Any = None, **columns: Any) -> dict[str, Any]:
    given = {
        "action": action, "resource": "tools", "resource_id": "12", "actor": "ada@example.com",
        "user_id": 7, "ip_address": "10.1.2.3", "request_id": None,
        "details": details if isinstance(details, str | None) else json.dumps(details),
    }  # fmt: skip
    return given | columns


def changed(**columns: tuple[Any, Any]) -> dict[str, Any]:
    before, after = ({name: pair[n] for name, pair in columns.items()} for n in (0, 1))
    return {"before": before, "after": after}


def said(row_: Mapping[str, Any], words: Words = WORDS) -> str:
    return line(row_, words, {"users": {"7": "Ada", "8": "Bob"}}).sentence


@pytest.mark.parametrize(
    ("row_", "sentence"),
    [
        (row("tools.update", changed(price=(5, 6))), "Ada changed tools 12: price 5 → 6"),
        (row("tools.insert", {"after": {"price": 5}}), "Ada added tools 12"),
        (row("tools.delete", {"before": {"price": 5}}), "Ada removed tools 12"),
        (row("tools.truncate", {"rows": 9}, resource_id=None),
         "Ada removed all rows of tools: rows 9"),
        (row("tools.went_missing"), "Ada tools: went missing tools 12"),
        (row("users.update", changed(is_admin=(False, True), role=("user", "admin")),
             resource="users", resource_id="8"),
         "Ada made Bob an administrator: is_admin no → yes"),
        (row("users.update", changed(is_admin=(True, False), is_disabled=(False, True)),
             resource="users", resource_id="8"),
         "Ada made Bob no administrator any more and disabled them:"
         " is_admin yes → no, is_disabled no → yes"),
        (row("users.update", changed(password_hash=("***", "***")), resource="users",
             resource_id="8"), "Ada changed the password of Bob"),
        (row("sign_in.succeeded", None, resource="sign_in", resource_id="ada@example.com"),
         "Ada signed in"),
        (row("users.update", changed(is_disabled=(False, True)), resource="users",
             resource_id="8", actor="sync:directory", user_id=None),
         "Directory sync disabled Bob: is_disabled no → yes"),
        (row("tools.update", changed(a=(1, 2), b=(1, 2), c=(1, 2), d=(1, 2), e=(1, 2), f=(1, 2))),
         "Ada changed tools 12: a 1 → 2, b 1 → 2, c 1 → 2, d 1 → 2, and 2 more"),
        (row("tools.update", "[[[[" * 5000), "Ada changed tools 12"),
        (row("tools.update", '"text"'), "Ada changed tools 12: details text"),
        (row("tools.update", {"before": 1, "after": [2]}),
         "Ada changed tools 12: before 1, after [2]"),
        (row("tools.x", ["list", None]), 'Ada tools: x tools 12: details ["list", null]'),
    ],
)  # fmt: skip
def test_a_row_is_one_sentence(row_: dict[str, Any], sentence: str) -> None:
    assert said(row_) == f"{sentence}, from 10.1.2.3"


def test_an_app_has_words_of_its_own() -> None:
    words = Words(
        phrases={"tools.lent": "lent {}", "tools.is_broken": ("broke {}", "mended {}")},
        links={"tools": "/tools/{}"},
    )
    assert said(row("tools.lent"), words) == "Ada lent tools 12, from 10.1.2.3"
    broken = row("tools.update", changed(is_broken=(True, False)))
    assert said(broken, words).startswith("Ada mended tools 12: is_broken yes → no")
    told = line(broken, words, {})
    assert told.record_link == "/tools/12"
    assert line(row("tools.lent", resource_id="../x"), words, {}).record_link is None


def test_the_words_of_all_apps_are_put_together() -> None:
    registry = AppRegistry(["audit.piccolo_app", "home.piccolo_app"])
    assert APP.words == Words()
    assert {"audit.export", "users.is_admin"} <= registry.words().phrases.keys()


async def names(db: Queries, keys: Sequence[str]) -> Mapping[str, str]:
    return {}


def test_a_record_that_nobody_knows_any_more_has_no_page() -> None:
    words = Words(links={"tools": "/tools/{}"}, names={"tools": names})
    assert line(row("tools.lent"), words, {}).record_link is None


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("cli:ada", "ada at a terminal"), ("db:postgres", "postgres (plain SQL)"),
        ("sync:directory", "Directory sync"), ("system:purge", "The application (purge)"),
        ("anonymous", "Somebody not signed in"), ("ada@example.com", "ada@example.com"),
        (None, "Unknown"), ("", "Unknown"), ("odd:thing", "odd:thing"),
        ("cli:\x1b[2J", "\\x1b[2J at a terminal"), ("x" * 500, "x" * 79 + "…"),
    ],
)  # fmt: skip
def test_who_acted(name: str | None, words: str) -> None:
    assert actor_in_words(name) == words


@pytest.mark.parametrize(
    ("of", "words"),
    [
        (None, "—"), (True, "yes"), (False, "no"), (1.5, "1.5"), ("", "“”"), ("x\ny", "x\\ny"),
        ({"a": [1]}, '{"a": [1]}'), ("\u202e", "\\u202e"), ("x" * 10**6, "x" * 79 + "…"),
    ],
)  # fmt: skip
def test_values(of: Any, words: str) -> None:
    assert value(of) == words


def test_a_detail_that_is_said_elsewhere_is_left_out() -> None:
    failed = row("sign_in.failed", {"network": "10.0.0.0", "reason": "code"})
    assert [change.name for change in tell(failed, WORDS.phrases).changes] == ["reason"]
