"""What a source logs in a run: buffered, bounded, without secrets, and kept with the run."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import NamedTuple

from audit.context import storable
from audit.database import Database, Record
from home.config.redaction import MAX_TRACEBACK_CHARACTERS, Redactor

AT_ONCE = 1_000  # lines that are read
MOST_LINES = 1_000  # of a run; of more, only their number is kept
LONGEST_LINE = 2_000  # characters
LONGEST_TRACEBACK = 1_500  # of these, its end
# What structlog puts into each event, and each line has anyway, or nobody needs here.
USUAL = {"event", "level", "logger", "timestamp", "request_id", "exception"}

NEWER = """
    SELECT id, at, level, text FROM sync_log_lines WHERE run = $1 AND id > $2 ORDER BY id LIMIT $3
"""
NEWEST = """
    SELECT * FROM (
        SELECT id, at, level, text, count(*) OVER () AS number
        FROM sync_log_lines WHERE run = $1 ORDER BY id DESC LIMIT $2
    ) AS newest ORDER BY id
"""


class Line(NamedTuple):
    """A line of a log; the level as `logging` names it."""

    at: datetime
    level: str
    text: str


class RunLog:
    """The lines of a run that are not stored yet, and how many are. Any thread may add some."""

    def __init__(self, redactor: Redactor) -> None:
        self._redactor = redactor
        self._lock = threading.Lock()
        self._lines: list[Line] = []
        self._number = 0  # of all that were kept
        self._left_out = 0
        self.stored = 0

    def add(self, record: logging.LogRecord) -> None:
        """Keep a record, or count it, where there are many already."""
        with self._lock:
            if self._number >= MOST_LINES:
                self._left_out += 1
                return
            self._number += 1
        # Not under the lock: texts come from objects that may log themselves.
        line = Line(datetime.fromtimestamp(record.created, UTC), *self._shown(record))
        with self._lock:
            self._lines.append(line)

    def waiting(self, *, is_last: bool = False) -> list[Line]:
        """Return what is to be stored; at the end of the run, with how many are not.

        Args:
            is_last: nothing comes any more.
        """
        with self._lock:
            if is_last and self._left_out:
                text = f"and {self._left_out:,} more, which are not kept"
                self._lines.append(Line(datetime.now(UTC), "WARNING", text))
                self._left_out = 0
            return [*self._lines]

    def forget(self, lines: list[Line]) -> None:
        """Let go of what has been stored."""
        with self._lock:
            del self._lines[: len(lines)]
            self.stored += len(lines)

    def _shown(self, record: logging.LogRecord) -> tuple[str, str]:
        text = self._clean(_text_of(record), LONGEST_LINE)
        if where := _traceback_of(record):
            end = self._clean(where, MAX_TRACEBACK_CHARACTERS)[-LONGEST_TRACEBACK:]
            text = f"{text[: LONGEST_LINE - LONGEST_TRACEBACK - 1]}\n{end}"
        return self._clean(record.levelname, 20), text

    def _clean(self, text: str, limit: int) -> str:
        shown: str = storable(self._redactor.clean(text, limit - 1))
        return shown


def _text_of(record: logging.LogRecord) -> str:
    if isinstance(record.msg, Mapping):  # of structlog
        more = [f" {name}={value}" for name, value in record.msg.items() if name not in USUAL]
        return str(record.msg.get("event", "")) + "".join(more)
    try:
        return record.getMessage()
    except Exception:  # arguments that do not fit, which `logging` itself tells on standard error
        return str(record.msg)


def _traceback_of(record: logging.LogRecord) -> str:
    if isinstance(record.msg, Mapping):
        return str(record.msg.get("exception", ""))
    if not record.exc_info:
        return ""
    return logging.Formatter().formatException(record.exc_info)


async def newer(db: Database, run: int, after: int, limit: int) -> list[Record]:
    """Return lines (id, at, level, text) of a run that come after one, the oldest first."""
    return await db.fetch(NEWER, run, after, limit)


async def newest(db: Database, run: int, limit: int) -> tuple[list[Record], int]:
    """Return the newest lines of a run, the oldest of them first, and how many came before."""
    rows = await db.fetch(NEWEST, run, limit)
    return rows, rows[0]["number"] - len(rows) if rows else 0
