"""How a command ends: what it prints last, and its exit code."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from collections.abc import Iterator
from typing import NoReturn

DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def fail(message: str, code: int = 1) -> NoReturn:
    """End with a line on standard error."""
    print(message[:1].upper() + message[1:], file=sys.stderr)
    sys.exit(code)


@contextlib.contextmanager
def output_written() -> Iterator[None]:
    """Flush standard output at the end, and end where it takes no more.

    Raises:
        SystemExit: 141 nobody reads it any more, 1 its disk is full, with a line.
    """
    try:
        try:
            yield
        finally:
            sys.stdout.flush()
    except BrokenPipeError:  # `| head` has seen enough: end quietly, as other programs do
        _forget_output()
        sys.exit(141)
    except OSError as error:
        if error.errno not in DISK_FULL:
            raise
        _forget_output()
        fail(f"the output cannot be written: {error.strerror}")


def _forget_output() -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes once more
