"""What options of commands may say."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from audit.cli import WrongOption, moment


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-01-31", datetime(2026, 1, 31, tzinfo=UTC)),
        ("2026-01-31T12:30", datetime(2026, 1, 31, 12, 30, tzinfo=UTC)),
        ("2026-01-31 12:30:01+02:00", datetime(2026, 1, 31, 10, 30, 1, tzinfo=UTC)),
        ("2026-01-31T12:30Z", datetime(2026, 1, 31, 12, 30, tzinfo=timezone(timedelta()))),
        (" 2026-02-28 ", datetime(2026, 2, 28, tzinfo=UTC)),
    ],
)
def test_moments_are_utc_unless_they_say_otherwise(text: str, expected: datetime) -> None:
    assert moment("since", text) == expected


@pytest.mark.parametrize(
    "text", ["", "x", "2026-02-29", "31.01.2026", "0001-01-01T00:00+14:00", "99999-01-01", "1e3"]
)
def test_what_is_no_moment_is_refused(text: str) -> None:
    with pytest.raises(WrongOption, match="is not a date such as"):
        moment("since", text)
