"""Due times by a cron expression, in the time of a place."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, tzinfo
from functools import cached_property

# How far before a moment the last due time is looked for: a due time each minute costs few steps,
# and 29 February on a certain day of the week comes once in 40 years.
BACK = [timedelta(minutes=2), *(timedelta(days=days) for days in (0.1, 2, 62, 800, 18_000))]


@dataclass(frozen=True)
class Schedule:
    """A cron expression of five fields, and the zone whose clocks it goes by.

    Where clocks are changed it does as Debian's cron: with a fixed minute and hour, a time that
    exists twice is due at its first, and one that is skipped is due right after the gap.

    Args:
        expression: such as "0 3 * * mon-fri".
        zone: by its name in the time zone database, such as Europe/Berlin.

    Raises:
        ValueError: what is wrong with either.
    """

    expression: str
    zone: str = "UTC"
    # The last due time and the next: all that is asked between them costs nothing.
    _known: list[datetime] = field(default_factory=list, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if len(self.expression.split()) != 5:
            raise ValueError(
                f"schedule={self.expression!r} needs five fields: minute, hour, day of the month, "
                "month, day of the week"
            )
        from cronsim import CronSimError

        try:
            self.next_due(datetime.now(UTC))
        except CronSimError as error:
            raise ValueError(f"schedule={self.expression!r}: {str(error).lower()}") from None

    def __str__(self) -> str:
        return f"{self.expression}, {self.zone}"

    def last_due(self, now: datetime) -> datetime:
        """Return the newest due time that is not after a moment, in UTC."""
        match self._known:
            case newest, following if newest <= now < following:
                return newest
        for back in BACK:
            last: datetime | None = None
            # Forwards also here: going backwards, cronsim misses times in the hour that is twice.
            for due in self._from(now - back):
                if due > now:
                    break
                last = due
            if last is not None:
                self._known[:] = last, self.next_due(now)
                return last
        raise ValueError(f"schedule={self.expression!r} was never due")

    def next_due(self, now: datetime) -> datetime:
        """Return the first due time after a moment, in UTC.

        Raises:
            ValueError: it never comes, as of 31 February.
        """
        # In the second one of an hour that is twice, cronsim names times of the first one.
        found = next((due for due in self._from(now) if due > now), None)
        if found is None:
            raise ValueError(f"schedule={self.expression!r} is never due: there is no such day")
        return found

    def _from(self, moment: datetime) -> Iterator[datetime]:
        """Iterate over due times in UTC, in their order, from a moment on or a little before."""
        from cronsim import CronSim

        found = CronSim(self.expression, moment.astimezone(self._place))
        return (due.astimezone(UTC) for due in found)

    @cached_property
    def _place(self) -> tzinfo:
        from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

        try:
            return UTC if self.zone == "UTC" else ZoneInfo(self.zone)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise ValueError(f"zone={self.zone!r} is unknown: name one as Europe/Berlin") from None
