"""What the task of a run logs, by `logging` or structlog, is kept with the run."""

from __future__ import annotations

import logging

from sync_history.containment import current_run

OURS = "groundwork"  # our own loggers tell of the run, to whoever runs the server


class _Handler(logging.Handler):
    """Gives a record to the run in whose task, or thread of `asyncio.to_thread`, it was logged."""

    def emit(self, record: logging.LogRecord) -> None:
        run = current_run()
        if run is not None and record.name.partition(".")[0] != OURS:
            try:
                run.log.add(record)
            except Exception:  # a source may log what cannot be shown
                self.handleError(record)


_handler = _Handler()


def capture() -> None:
    """Look at all that is logged from now on, as far as LOG_LEVEL lets it through."""
    root = logging.getLogger()
    if _handler not in root.handlers:  # whoever sets logs up anew takes it away
        root.addHandler(_handler)
