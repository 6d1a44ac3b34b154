"""People from CSV or JSON, one after the other: memory does not grow with the file.

CSV has a header; commas, semicolons or tabs separate. JSON is an array of objects, or one object
after the other, as NDJSON has them. Which it is shows from the first character.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterator, Mapping
from itertools import chain, count
from pathlib import Path
from typing import NamedTuple, TextIO

from home.tables import normalise_email
from sync_history.directory.json_stream import Malformed, Scanner
from sync_history.sources import SyncFailed

LONGEST = 1 << 16  # characters of one line
TEXTS = ("display_name", "organization", "clerk_id")
# Control characters, lone surrogates, and those that turn the direction of what follows.
UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
# As users_email_check has it: nothing invisible.
_PART = r"[^@\s\u00ad\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]+"
EMAIL = re.compile(f"{_PART}@{_PART}")
YES, NO = {"true", "yes", "1"}, {"false", "no", "0", ""}
CUT_OFF = "The directory is incomplete: it ends in the middle of line {}. Nothing was changed."


class Entry(NamedTuple):
    """A person, as one line or one object describes them.

    Args:
        number: rises from one to the next.
        email: None where the line cannot be read far enough to know whom it is about.
        has_left: listed, and marked with `is_disabled`.
        problem: why it cannot be used.
    """

    number: int
    email: str | None = None
    display_name: str | None = None
    organization: str | None = None
    clerk_id: str | None = None
    has_left: bool = False
    problem: str | None = None


def read_people(path: Path) -> tuple[str, Iterator[Entry]]:
    """Read the people of a file, one by one, broken lines included.

    Returns:
        What their numbers count, «line», or «item» of a JSON array; and the people.

    Raises:
        SyncFailed: the file as a whole cannot be used. That may turn out at its last line only.
    """
    with path.open("rb") as raw:
        beginning = raw.read(4096)
    if not beginning.strip():
        raise SyncFailed("The directory is empty: there is not even a header. Nothing was changed.")
    if b"\x00" in beginning or beginning.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise SyncFailed("The directory is not UTF-8 text. Export it as CSV or JSON in UTF-8.")
    kind = beginning.removeprefix(b"\xef\xbb\xbf").lstrip()[:1]
    read = {b"[": _from_array, b"{": _from_objects}.get(kind, _from_csv)
    return "item" if read is _from_array else "line", _decoded(path, read)


def _decoded(path: Path, read: Callable[[TextIO], Iterator[Entry]]) -> Iterator[Entry]:
    number = 0
    with path.open(encoding="utf-8-sig", newline="") as file:
        try:
            for line in read(file):
                number = line.number
                yield line
        except UnicodeDecodeError:
            raise SyncFailed(
                f"The directory is not UTF-8 text, somewhere after its person {number}. "
                "Export it again, in UTF-8."
            ) from None


def _person(number: int, values: Mapping[str, object]) -> Entry:
    email = values.get("email")
    if email is None or email == "":
        return Entry(number, problem="has no e-mail address")
    if not isinstance(email, str):
        return Entry(number, problem="email is not text")
    email = normalise_email(email)
    if len(email) > 255 or not EMAIL.fullmatch(email) or UNPRINTABLE.search(email):
        return Entry(number, problem=f"{email[:60]!a} is no e-mail address")
    texts: dict[str, str | None] = {}
    for name in TEXTS:
        text = values.get(name)
        if text is not None and not isinstance(text, str):
            return Entry(number, email, problem=f"{name} is not text")
        text = text.strip() if text else None
        if text and len(text) > 255:
            return Entry(number, email, problem=f"{name} is longer than 255 characters")
        if text and UNPRINTABLE.search(text):
            return Entry(number, email, problem=f"{name} holds control characters")
        texts[name] = text or None
    left = str(values.get("is_disabled") or "").strip().lower()
    if left not in YES | NO:
        return Entry(number, email, problem="is_disabled is neither true nor false")
    return Entry(number, email, **texts, has_left=left in YES)


# CSV --------------------------------------------------------------------------------------


class _Lines:
    """Yields the lines of a file, none of them too long; remembers the last one."""

    def __init__(self, file: TextIO) -> None:
        self.file = file
        self.last = ""
        self.number = 0

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        line = self.file.readline(LONGEST)
        if not line:
            raise StopIteration
        self.number += 1
        if len(line) == LONGEST and not line.endswith(("\n", "\r")):
            raise SyncFailed(
                f"Line {self.number} of the directory is longer than {LONGEST} characters. "
                "Nothing was changed."
            )
        self.last = line
        return line

    @property
    def is_cut_off(self) -> bool:
        return not self.last.endswith(("\n", "\r"))


def _from_csv(file: TextIO) -> Iterator[Entry]:
    lines = _Lines(file)
    first = next(lines)
    delimiter = max(",;\t", key=first.count)
    reader = csv.reader(chain([first], lines), delimiter=delimiter, strict=True)
    header = _header(reader)
    while True:
        number = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            if "unexpected end" in str(error):
                raise SyncFailed(CUT_OFF.format(number)) from None
            yield Entry(number, problem="is not proper CSV: look at its quotation marks")
            continue
        if not cells:
            continue
        if len(cells) != len(header):
            if lines.is_cut_off:
                raise SyncFailed(CUT_OFF.format(number))
            problem = f"has {len(cells)} fields where the header has {len(header)}"
            yield Entry(number, problem=problem)
        elif reader.line_num > number:  # whom else a stray quotation mark swallowed, nobody knows
            yield Entry(
                number, problem=f"goes on to line {reader.line_num}, inside quotation marks"
            )
        else:
            yield _person(number, dict(zip(header, cells, strict=True)))


def _header(reader: Iterator[list[str]]) -> list[str]:
    try:
        header = [name.strip().lower() for name in next(reader)]
    except csv.Error:
        raise SyncFailed("The directory's first line is no header. Nothing was changed.") from None
    known = [name for name in header if name in ("email", "is_disabled", *TEXTS)]
    if "email" not in known:
        # What is there instead is not said: it may be another server's answer.
        raise SyncFailed(
            "The directory has no column «email» in its first line. Nothing was changed."
        )
    if len(set(known)) < len(known):
        raise SyncFailed("The directory names a column twice in its header. Nothing was changed.")
    return header


# JSON -------------------------------------------------------------------------------------


def _from_array(file: TextIO) -> Iterator[Entry]:
    scanner = Scanner(file)
    scanner.peek()
    scanner.at += 1  # the bracket
    for number in count(1):
        character = scanner.peek()
        if character == "]" and number == 1:
            return
        line = scanner.line
        try:
            value = scanner.value()
        except Malformed as error:
            raise _broken_json(line, error.is_cut_off) from None
        yield _object(number, value)
        character = scanner.peek()
        if character == "]":
            return
        if character != ",":
            raise _broken_json(scanner.line, is_cut_off=not character)
        scanner.at += 1


def _from_objects(file: TextIO) -> Iterator[Entry]:
    scanner = Scanner(file)
    last = 0
    while scanner.peek():
        number = scanner.line
        try:
            value = scanner.value()
        except Malformed as error:
            if error.is_cut_off:
                raise _broken_json(number, is_cut_off=True) from None
            scanner.skip_line()
            yield Entry(number, problem="is not JSON")
        else:
            if number == last:
                yield Entry(number, problem="holds more than one object")
            else:
                yield _object(number, value)
        last = number


def _object(number: int, value: object) -> Entry:
    if isinstance(value, dict):
        return _person(number, value)
    return Entry(number, problem="is no object with an email")


def _broken_json(line: int, is_cut_off: bool) -> SyncFailed:
    if is_cut_off:
        return SyncFailed(CUT_OFF.format(line))
    return SyncFailed(f"The directory is not JSON from line {line} on. Nothing was changed.")
