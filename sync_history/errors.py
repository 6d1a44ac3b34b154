"""What sources raise."""

from __future__ import annotations

from audit.errors import GroundworkError


class SyncFailed(GroundworkError):
    """Raised by a source: the run fails. People see the message: what happened, what to do."""
