"""Secrets are taken out of texts, in time that grows with what is looked at and no faster."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from itertools import islice
from urllib.parse import quote, quote_plus

from structlog.typing import EventDict, WrappedLogger

# Of a value that is logged. A chain of exceptions is long, and its last one counts.
MAX_CHARACTERS = 8 * 1024
MAX_TRACEBACK_CHARACTERS = 64 * 1024
MAX_ITEMS = 100

# A URL ends before these; each expression here passes over a text once.
WORD = re.compile(r"""[^\s"'<>]+""")
SPECIAL = re.compile("[/@:]")
LINK = re.compile(r"(/link/)[A-Za-z0-9_-]{20,}")  # a path that opens an account
PASSWORD = re.compile(r"""(password=)[^\s"'<>&]+""", re.IGNORECASE)
# Stands for each character of a secret until the text is cut, so that the cut does not move.
MARK = "\ue000"
MARKS = re.compile(f"{MARK}+")


class Redactor:
    """A structlog processor that blots out secrets wherever they turn up, and cuts long texts.

    Args:
        secrets: exact values; each is also found percent-encoded, and as Python and JSON quote it.
    """

    def __init__(self, secrets: Iterable[str]) -> None:
        forms = {form for secret in secrets if len(secret) > 3 for form in _forms(secret)}
        longest_first = sorted(forms, key=len, reverse=True)
        pattern = "|".join(map(re.escape, longest_first))
        any_case = re.sub("%[0-9A-F]{2}", lambda match: f"(?i:{match.group()})", pattern)
        self.known = re.compile(any_case) if forms else None
        self.margin = len(longest_first[0]) if forms else 0

    def __call__(self, logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
        # What begins with an underscore is structlog's own, and not shown.
        return {k: v if k.startswith("_") else self.clean(v, _limit(k)) for k, v in event.items()}

    def clean(self, value: object, limit: int = MAX_CHARACTERS) -> object:
        """Return the value as it may be shown.

        Args:
            limit: of characters in a text.
        """
        if value is None or isinstance(value, int):
            return value
        if isinstance(value, float) and math.isfinite(value):  # JSON has no nan
            return value
        if isinstance(value, Mapping):
            pairs = [*islice(value.items(), MAX_ITEMS), *([("…", "…")] * (len(value) > MAX_ITEMS))]
            return {str(self.clean(key)): self.clean(inner, limit) for key, inner in pairs}
        if isinstance(value, list | tuple | set | frozenset):
            items = [*islice(value, MAX_ITEMS), *(["…"] * (len(value) > MAX_ITEMS))]
            return [self.clean(inner, limit) for inner in items]
        if isinstance(value, bytes):  # a character has four at most
            value = value[: 4 * (limit + self.margin) + 4].decode(errors="backslashreplace")
        return self._clean_text(value if isinstance(value, str) else repr(value), limit)

    def _clean_text(self, text: str, limit: int) -> str:
        """Mark what is known before the cut, beyond it as far as a secret may reach."""
        is_long = len(text) > limit
        if is_long:
            text = text[: limit + self.margin]
        if self.known is not None:
            text = self.known.sub(lambda match: MARK * len(match.group()), text)
        if is_long:
            text = without_open_url(text[:limit])
        text = LINK.sub(rf"\1{MARK}", PASSWORD.sub(rf"\1{MARK}", text))
        text = without_credentials(text)
        return MARKS.sub("***", text) + ("…" if is_long else "")


def without_credentials(text: str) -> str:
    """Return the text with what stands before the @ of a URL marked.

    Up to the last @ of a word: a password that was not encoded may hold / or @.
    """
    if "://" not in text or "@" not in text:
        return text
    return WORD.sub(lambda match: _without_credentials(match.group()), text)


def _without_credentials(word: str) -> str:
    parts, done, last = [], 0, word.rfind("@")
    found = word.find("://")
    while found != -1 and (begin := found + 3) <= last:
        special = SPECIAL.search(word, begin)
        assert special is not None  # the last @, if nothing before it
        end = last if special.group() == ":" else special.start()
        if special.group() != "/" and end > begin:
            parts += [word[done:begin], MARK]
            begin = done = end
        found = word.find("://", begin)
    return "".join([*parts, word[done:]])


def without_open_url(text: str) -> str:
    """Return a text that was cut without the end of a URL whose @ may have been cut off."""
    match = WORD.match(text[::-1])
    begin = len(text) - (match.end() if match else 0)
    scheme = text.find("://", begin)
    return text if scheme == -1 else text[: scheme + 3]


def _limit(key: str) -> int:
    return MAX_TRACEBACK_CHARACTERS if key == "exception" else MAX_CHARACTERS


def _forms(secret: str) -> set[str]:
    encoded = {quote(secret), quote(secret, ""), quote_plus(secret)}
    quoted = (
        repr(secret),
        ascii(secret),
        json.dumps(secret),
        json.dumps(secret, ensure_ascii=False),
    )
    return {secret, *encoded, *(text[1:-1] for text in quoted)}
