"""Figures of several workers in memory that they share."""

from __future__ import annotations

import os

import pytest

from audit import counts
from audit.counts import OTHERS, ROWS, Counts, Seats, sit_down


@pytest.fixture
def seats(monkeypatch: pytest.MonkeyPatch) -> Seats:
    monkeypatch.setattr(counts, "seats", None)
    monkeypatch.setattr(counts, "counts", Counts())
    return Seats(bytearray(Seats.bytes_for(2)), 2)


def test_who_takes_a_seat_counts_on(seats: Seats) -> None:
    header = sit_down(seats, 1, ["gauge"])
    assert counts.seats is seats
    assert seats.pid(1) == header[0] == os.getpid()
    counts.counts.add("event", "sign_in.failed", 2)
    counts.counts.replace("gauge", {"tasks": 7.0})
    assert seats.counts(1).of("event") == {"sign_in.failed": 2}
    assert seats.counts(0).of("event") == {}
    seats.leave(1)
    assert seats.pid(1) == 0
    counts.counts = Counts()
    sit_down(seats, 1, ["gauge"])
    counts.counts.add("event", "sign_in.failed")
    assert counts.counts.of("event") == {"sign_in.failed": 3}
    assert counts.counts.of("gauge") == {}  # its predecessor's


def test_a_gauge_that_is_not_given_any_more_is_gone() -> None:
    mine = Counts()
    mine.replace("gauge", {"rows users": 3.0, "tasks": 1.0})
    mine.replace("gauge", {"tasks": 2.0})
    assert mine.of("gauge") == {"tasks": 2.0}


def test_what_finds_no_place_is_counted_all_the_same(seats: Seats) -> None:
    sit_down(seats, 0, [])
    for number in range(2 * ROWS):
        counts.counts.add("event", f"{number} {'ä' * 100}")
    found = seats.counts(0)
    assert len(found.of("event")) == ROWS - 1
    assert found.of(OTHERS[0]) == {OTHERS[1]: ROWS + 1}
    assert seats.counts(1).of("event") == {}
