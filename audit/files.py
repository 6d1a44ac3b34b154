"""Files that commands write: whole, or not there."""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from audit.cli import CommandError


@contextmanager
def new_file(name: str) -> Iterator[BinaryIO]:
    """Open a new file that only its owner may read; without a name, standard output.

    It is written under another name beside it, and gets its own at the end: one that was cut off
    never has it. Nothing is overwritten.

    Raises:
        CommandError: the file is there already, or cannot be written.
    """
    if not name:
        yield sys.stdout.buffer
        return
    path = Path(name)
    try:
        if path.exists():
            raise FileExistsError
        unfinished = path.with_name(f".{path.name}.{secrets.token_hex(4)}.unfinished")
        with _removed_afterwards(unfinished) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
            _name(unfinished, path)
    except FileExistsError:
        raise CommandError(f"{path} is there already; choose another name") from None
    except ConnectionError:
        raise
    except OSError as error:
        raise CommandError(f"{path} cannot be written: {error.strerror}") from None


@contextmanager
def _removed_afterwards(path: Path) -> Iterator[BinaryIO]:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
    finally:
        path.unlink(missing_ok=True)


def _name(unfinished: Path, path: Path) -> None:
    try:
        os.link(unfinished, path)  # as against renaming, it never replaces another file
    except FileExistsError:
        raise
    except OSError:  # a file system without links
        unfinished.rename(path)
