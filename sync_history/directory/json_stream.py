"""Reading JSON values from a file piece by piece, with the lines they begin at."""

from __future__ import annotations

import re
from json import JSONDecodeError, JSONDecoder
from typing import TextIO

CHUNK = 1 << 16  # characters
LONGEST = 1 << 16  # characters of one value
SPACE = re.compile(r"[ \t\r\n]*")


class Malformed(Exception):
    """This is no JSON, or too long.

    Args:
        is_cut_off: it might have become JSON, but the file ends.
    """

    def __init__(self, is_cut_off: bool) -> None:
        self.is_cut_off = is_cut_off


class Scanner:
    """Takes values from a file that is read piece by piece, and counts lines."""

    decode = JSONDecoder().raw_decode

    def __init__(self, file: TextIO) -> None:
        self.file = file
        self.text = ""
        self.at = 0
        self.line = 1

    def more(self) -> bool:
        chunk = self.file.read(CHUNK)
        self.text, self.at = self.text[self.at :] + chunk, 0
        return bool(chunk)

    def move_to(self, end: int) -> None:
        self.line += self.text.count("\n", self.at, end)
        self.at = end

    def peek(self) -> str:
        """Return the next character that is no white space; empty at the end of the file."""
        while True:
            space = SPACE.match(self.text, self.at)
            assert space is not None  # it matches nothing, too
            self.move_to(space.end())
            if self.at < len(self.text):
                return self.text[self.at]
            if not self.more():
                return ""

    def value(self) -> object:
        """Return the value that begins here.

        Raises:
            Malformed: it is broken, or longer than LONGEST characters.
        """
        while True:
            try:
                value, end = self.decode(self.text, self.at)
            except (ValueError, RecursionError) as error:
                is_short = len(self.text) - self.at < LONGEST
                if is_short and self.more():
                    continue
                raise Malformed(is_short and self._is_cut_off(error)) from None
            self.move_to(end)
            return value

    def _is_cut_off(self, error: Exception) -> bool:
        return isinstance(error, JSONDecodeError) and (
            error.pos >= len(self.text.rstrip()) or error.msg.startswith("Unterminated string")
        )

    def skip_line(self) -> None:
        """Go to the next line, or to the end of the file."""
        while (end := self.text.find("\n", self.at)) < 0:
            self.at = len(self.text)
            if not self.more():
                return
        self.move_to(end + 1)
