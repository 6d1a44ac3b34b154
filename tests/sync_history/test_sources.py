"""What a source is, and what it tells."""

from __future__ import annotations

import sys
from datetime import timedelta
from pathlib import Path

import asyncpg
import pytest

import piccolo_conf
from home.config.settings import load_settings
from home.services import Services
from sync_history import sources as registry
from sync_history.reporting import KEPT, LARGEST, Progress
from sync_history.settings import SyncSettings
from sync_history.sources import (
    CannotLoad,
    Run,
    Source,
    load,
    source,
    sources,
)
from tests.sync_history.conftest import SERVICES


@pytest.fixture(autouse=True)
def nothing_is_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_registry", {})


async def nothing(run: Run) -> None:
    """A source with nothing to do."""


def test_a_source_is_known_by_its_name() -> None:
    assert source("b", every=timedelta(hours=1))(nothing) is nothing
    source("a")(nothing)
    assert list(sources()) == ["a", "b"]
    assert sources()["b"] == Source("b", nothing, timedelta(hours=1))


def test_what_makes_no_source_is_refused() -> None:
    with pytest.raises(TypeError, match="needs an async function"):
        source("x")(lambda run: None)  # type: ignore[arg-type, return-value]  # the mistake
    for name in ("", "A", "a b", "a/b", "runs\n", "x" * 101):
        with pytest.raises(ValueError, match="small letters"):
            source(name)
    with pytest.raises(ValueError, match="at least a second"):
        source("x", every=timedelta(milliseconds=10))


def test_two_modules_cannot_share_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "from sync_history.sources import source\n@source('x')\nasync def x(run): ...\n"
    for name in ("first_crm", "second_crm"):
        (tmp_path / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    load(["first_crm", "first_crm"])
    assert sources()["x"].function.__module__ == "first_crm"
    with pytest.raises(CannotLoad, match=r"second_crm .* already a source x, in first_crm"):
        load(["second_crm"])
    del sys.modules["first_crm"]


def test_a_module_that_is_not_there_is_named() -> None:
    with pytest.raises(CannotLoad, match=r"SYNC_SOURCES: no\.such cannot be imported"):
        load(["no.such"])


def test_a_run_counts() -> None:
    run = Run(SERVICES, 1, "x")
    run.total(10)
    run.synced()
    run.synced(4)
    run.failed("line 3", "no address")
    details = {"failures": [{"item": "line 3", "error": "no address"}]}
    assert run.progress == Progress(10, 5, 1, details)
    run.synced(LARGEST)
    assert run.progress.synced == LARGEST
    for count in (run.synced, run.total):
        with pytest.raises(ValueError, match="negative"):
            count(-1)
        for wrong in (1.5, float("nan"), "5", None):
            with pytest.raises(TypeError):
                count(wrong)  # type: ignore[arg-type]  # the mistake


def test_what_it_keeps_is_bounded_and_counted() -> None:
    run = Run(SERVICES, 1, "x")
    for number in range(1_200):
        run.failed(f"line {number}", "x" * 10_000)
        run.note("y" * 10_000)
    details = run.progress.details
    assert details is not None
    assert len(details["failures"]) == KEPT["failures"] == 500
    assert details["failures_left_out"] == 700
    assert details["notes_left_out"] == 200
    assert {len(each["error"]) for each in details["failures"]} == {500}
    assert {len(note) for note in details["notes"]} == {500}
    assert run.progress.failed == 1_200


def test_errors_become_words_that_can_be_stored() -> None:
    settings = load_settings([SyncSettings], directory_token="s3cret")
    run = Run(Services(piccolo_conf.DB, settings), 1, "x")
    run.failed("a\x00\ud800", ValueError("s3cret"))
    run.failed("b", asyncpg.UniqueViolationError("duplicate key", "Key (email)=(ada@...)"))
    run.failed("c", KeyError())
    details = run.progress.details
    assert details is not None
    assert details["failures"] == [
        {"item": "a" + 4 * "\ufffd", "error": "ValueError: ***", "is_inexact": True},
        {"item": "b", "error": "UniqueViolationError: duplicate key"},
        {"item": "c", "error": "KeyError"},
    ]
