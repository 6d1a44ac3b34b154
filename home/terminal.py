"""What a command asks whoever sits at the terminal."""

from __future__ import annotations

import getpass
import signal
import sys

from audit.cli import CommandError

INPUT_ENDED = "the input ended; nothing was changed"


def read_password(from_stdin: bool) -> str:
    """Return a password: the first line of standard input, or typed twice, unseen.

    Raises:
        CommandError: the two differ, or there is nothing to read.
    """
    if from_stdin:
        return _read_line().rstrip("\r\n")
    password = ask("Password: ", secret=True)
    if ask("Password again: ", secret=True) != password:
        raise CommandError("the two passwords differ; nothing was changed")
    return password


def _read_line() -> str:
    try:
        line = sys.stdin.readline()
    except UnicodeDecodeError:
        raise CommandError("the password is not UTF-8 text; nothing was changed") from None
    if not line:
        raise CommandError(INPUT_ENDED)
    return line


def ask(prompt: str, secret: bool = False) -> str:
    """Return what somebody types, unseen where it is secret.

    Raises:
        CommandError: nobody is there, or the input ended.
    """
    if not sys.stdin.isatty():
        raise CommandError("there is no terminal to ask at: use --email=... and --password-stdin")
    # asyncio would only cancel the task, which a prompt does not notice: let Ctrl-C end it at once.
    asyncio_handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return getpass.getpass(prompt) if secret else input(prompt)
    except (EOFError, UnicodeDecodeError):
        raise CommandError(INPUT_ENDED) from None
    finally:
        signal.signal(signal.SIGINT, asyncio_handler)
