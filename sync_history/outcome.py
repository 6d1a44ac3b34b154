"""How a run ended, in words, and whether a person should look at it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sync_history.reporting import Run, in_words
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
UNSTORABLE = Outcome(
    Status.FAILED, "What the source reported cannot be stored; see the log.", "It failed."
)


def stood_still(seconds: float) -> Outcome:
    """Return the outcome of a run whose process did nothing else for longer than the lease."""
    return Outcome(
        Status.FAILED,
        f"Its process stood still for {seconds:.0f} seconds: the source blocks the event loop, or "
        "the machine slept. Blocking calls belong into asyncio.to_thread.",
        "It did not come to an end.",
    )


def decide_outcome(run: Run, error: BaseException | None, earlier: Sequence[int]) -> Outcome:
    """Return the outcome of a source that came to its own end.

    Args:
        error: what it raised.
        earlier: how many items its last good runs synced.
    """
    progress = run.progress
    done, failed = progress.synced, progress.failed
    if error is not None:
        return Outcome(Status.FAILED, run.shown(in_words(error)), "It failed.")
    # A dry run syncs nothing: what did not fail would be done.
    items = progress.total if run.dry_run else done + failed
    if failed and failed == items:
        return Outcome(Status.FAILED, run.shown(_all_failed(run)), "It failed.")
    if failed:
        of_all = "" if items is None else f" of {items}"
        message = f"{failed}{of_all} items failed, see the error details."
        too_many = failed >= (items or done + failed) * TOO_MANY_FAILED
        return Outcome(Status.PARTIAL, message, message if too_many else None)
    usual = sorted(earlier)[len(earlier) // 2] if earlier else 0
    if not done and usual >= MUCH and not run.dry_run:
        reason = f"It synced nothing; the last {len(earlier)} runs synced {usual} items as a rule."
        return Outcome(Status.SUCCEEDED, attention=reason)
    return Outcome(Status.SUCCEEDED)


def _all_failed(run: Run) -> str:
    progress = run.progress
    assert progress.details is not None
    first = progress.details["failures"][0]
    if progress.failed == 1:
        return f"The only item failed, {first['item']}: {first['error']}"
    return f"All {progress.failed} items failed. The first, {first['item']}: {first['error']}"
