"""Figures of this process: in its own memory, or in memory that outlives it and that others read.

A process that serves alone counts for itself. Of several workers each takes a seat in memory that
all share: what it counted stays there when it dies, and whoever takes the seat next counts on.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping, MutableSequence
from typing import Any

OTHERS = ("", "")  # is counted in place of what found no row
HEADER = 32  # numbers of a seat that have no name: the first is the worker's process id, or 0
ROWS = 448
NAME_BYTES = 128  # the first one is the length
SEAT_BYTES = 64 * 1024
assert (HEADER + ROWS) * 8 + ROWS * NAME_BYTES <= SEAT_BYTES


class Counts:
    """Numbers by kind and label, such as `event` and `sign_in.failed`."""

    def __init__(self) -> None:
        self._values: MutableSequence[float] | memoryview[float] = []
        self._names: memoryview | None = None
        self._places: dict[tuple[str, str], int] = {}

    def add(self, kind: str, label: str, amount: float = 1) -> None:
        """Count."""
        self._values[self._place(kind, label)] += amount

    def replace(self, kind: str, numbers: Mapping[str, float]) -> None:
        """Set all numbers of a kind; those that are not given are there no more."""
        for known in self.of(kind).keys() - numbers.keys():
            self._values[self._places[kind, known]] = math.nan
        for label, number in numbers.items():
            self._values[self._place(kind, label)] = number

    def of(self, kind: str) -> dict[str, float]:
        """Return the numbers of a kind by label."""
        return {
            label: value
            for (found, label), place in self._places.items()
            if found == kind and not math.isnan(value := self._values[place])
        }

    def lie_in(self, values: memoryview[float], names: memoryview) -> None:
        """Count on in memory that others may read; what was counted so far is left behind."""
        self._values, self._names = values, names
        self._places = {}
        for place in range(ROWS):
            start = place * NAME_BYTES
            if not (length := names[start]):
                break
            text = bytes(names[start + 1 : start + 1 + length]).decode(errors="replace")
            kind, _, label = text.partition("\0")
            self._places[kind, label] = place

    def _place(self, kind: str, label: str) -> int:
        place = self._places.get((kind, label))
        if place is not None:
            return place
        place = len(self._places)
        if self._names is None:
            assert isinstance(self._values, list)
            self._values.append(0.0)
        elif place < ROWS - 1 or (kind, label) == OTHERS:
            name = f"{kind}\0{label}".encode()[: NAME_BYTES - 1]
            start = place * NAME_BYTES
            self._names[start + 1 : start + 1 + len(name)] = name
            self._names[start] = len(name)  # last: from now on others see it
        else:
            return self._place(*OTHERS)
        self._places[kind, label] = place
        return place


class Seats:
    """Memory of several workers.

    Args:
        memory: of at least `bytes_for(number)`, all zero at first.
        own: the index of this process's seat; None for who only looks.
    """

    def __init__(self, memory: Any, number: int, own: int | None = None) -> None:
        self._bytes = memoryview(memory).cast("B")
        self.number = number
        self.own = own

    @staticmethod
    def bytes_for(number: int) -> int:
        return number * SEAT_BYTES

    def header(self, index: int) -> memoryview[float]:
        """Return the numbers of a seat that have no name."""
        start = index * SEAT_BYTES
        return self._bytes[start : start + HEADER * 8].cast("d")

    def counts(self, index: int, counts: Counts | None = None) -> Counts:
        """Return what was counted in a seat.

        Args:
            counts: are to lie there, else they are only read.
        """
        start = index * SEAT_BYTES + HEADER * 8
        names = start + ROWS * 8
        found = Counts() if counts is None else counts
        values = self._bytes[start:names].cast("d")
        found.lie_in(values, self._bytes[names : names + ROWS * NAME_BYTES])
        return found

    def leave(self, index: int) -> None:
        """Note that whoever had a seat is gone: its gauges say nothing any more."""
        self.header(index)[0] = 0

    def pid(self, index: int) -> int:
        """Return the process id of who has a seat, or 0."""
        return int(self.header(index)[0])


counts = Counts()  # this process's
seats: Seats | None = None  # of all workers, where there are several


def sit_down(all_seats: Seats, index: int, gauges: Iterable[str]) -> memoryview[float]:
    """Count in a seat from here on; return its header.

    Args:
        gauges: kinds of numbers that were the predecessor's own, and are not counted on.
    """
    global seats
    seats, all_seats.own = all_seats, index
    all_seats.counts(index, counts)
    for kind in gauges:
        counts.replace(kind, {})
    header = all_seats.header(index)
    header[0] = os.getpid()
    return header
