"""How a run ended, in words, and whether a person should look at it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sync_history.sources import Run, SyncFailed, in_words
from sync_history.tables import Status

MUCH = 10  # items; fewer say little
TOO_MANY_FAILED = 0.1  # of all items


@dataclass(frozen=True)
class Outcome:
    """The end of a run.

    Args:
        message: why it did not succeed.
        attention: why a person should look at it.
    """

    status: Status
    message: str | None = None
    attention: str | None = None


CANCELLED = Outcome(Status.CANCELLED, "Cancelled. What it had done by then stays.")
STOPPED = Outcome(
    Status.FAILED,
    "The application was stopped. What it had done by then stays. Start it again.",
    "It did not come to an end.",
)
LOST = Outcome(
    Status.FAILED,
    "Its process had no contact with the database for too long. Start it again.",
    "It did not come to an end.",
)


def decide_outcome(run: Run, error: BaseException | None, earlier: Sequence[int]) -> Outcome:
    """The outcome of a source that came to its own end.

    Args:
        error: what it raised.
        earlier: how many items its last good runs synced.
    """
    done, failed = run.items_synced, run.items_failed
    if error is not None:
        text = str(error) if isinstance(error, SyncFailed) and str(error) else in_words(error)
        return Outcome(Status.FAILED, run.shown(text), "It failed.")
    if failed and not done and not run.dry_run:
        first = run.failures[0]
        text = f"All {failed} items failed. The first, {first['item']}: {first['error']}"
        return Outcome(Status.FAILED, run.shown(text), "It failed.")
    if failed:
        message = f"{failed} of {done + failed} items failed, see the error details."
        too_many = failed >= (done + failed) * TOO_MANY_FAILED
        return Outcome(Status.PARTIAL, message, message if too_many else None)
    usual = sorted(earlier)[len(earlier) // 2] if earlier else 0
    if not done and usual >= MUCH and not run.dry_run:
        reason = f"It synced nothing; the last {len(earlier)} runs synced {usual} items as a rule."
        return Outcome(Status.SUCCEEDED, attention=reason)
    return Outcome(Status.SUCCEEDED)
