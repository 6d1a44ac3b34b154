"""Where the files of the archive are: a folder, or a bucket that speaks S3."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import obstore
from obstore.fsspec import FsspecStore
from obstore.store import LocalStore, S3Store

from audit.errors import GroundworkError

TIME_OUT = "20s"  # of a request; a file goes in parts
LEFT_OVER = re.compile(r".+\.parquet#\d+")  # how obstore calls what it is writing


class ArchiveUnavailable(GroundworkError):
    """The archive cannot be reached; rows that were not archived are not concerned. Try again."""

    status, code = 503, "archive_unavailable"

    @property
    def retry_after(self) -> int:
        return 10


class Store:
    """Files by name. They are written whole, and never changed.

    Args:
        place: a folder, or `s3://bucket/prefix`; the rest is in the usual AWS_... variables.

    Raises (all methods):
        ArchiveUnavailable: the folder or bucket did not answer, or refused.
        FileNotFoundError: there is no such file.
    """

    def __init__(self, place: str) -> None:
        self.is_s3 = place.startswith("s3://")
        self.root = place.rstrip("/") if self.is_s3 else str(Path(place).absolute())
        self._store: LocalStore | S3Store | None = None

    @property
    def store(self) -> LocalStore | S3Store:
        """The store. A folder has to be there, but for who writes: it may not be mounted.

        Raises:
            ArchiveUnavailable: it is not.
        """
        if not self.is_s3 and not Path(self.root).is_dir():
            raise ArchiveUnavailable(f"the archive {self.root} is no folder")
        if self._store is None:
            self._store = self._open()
        return self._store

    def _open(self) -> LocalStore | S3Store:
        if self.is_s3:
            return S3Store.from_url(self.root, **_options())
        return LocalStore(self.root)

    def make(self) -> None:
        """Make the folder where there is none, which only its owner may read."""
        with self._translated():
            if not self.is_s3:
                Path(self.root).mkdir(mode=0o700, parents=True, exist_ok=True)

    def path(self, name: str) -> str:
        """Return where DuckDB finds a file."""
        return f"{self.root}/{name}"

    def put(self, name: str, file: Path) -> None:
        """Store a file under a new name: all of it, or nothing."""
        with self._translated():
            obstore.put(self.store, name, file, max_concurrency=2)
            if not self.is_s3:
                for path in (Path(self.root, name), Path(self.root)):
                    _to_disk(path)

    def size(self, name: str) -> int:
        """Return how many bytes a file has."""
        with self._translated():
            return obstore.head(self.store, name)["size"]

    def names(self) -> list[str]:
        """Return all files."""
        with self._translated():
            return [
                each["path"]
                for page in obstore.list(self.store)
                for each in page
                if each["path"].endswith(".parquet")
            ]

    def delete(self, name: str) -> None:
        """Remove a file, if it is there."""
        try:
            with self._translated():
                obstore.delete(self.store, name)
        except FileNotFoundError:
            return

    def left_over(self) -> Iterator[Path]:
        """Yield what a writer that was killed left in a folder."""
        if not self.is_s3:
            for path in Path(self.root).glob("*"):
                if LEFT_OVER.fullmatch(path.name):
                    yield path

    def _translated(self) -> _Translated:
        return _Translated(self.root)


def _options() -> dict[str, Any]:
    """Return how a bucket is asked; where it is, and as whom, is in AWS_... variables."""
    is_plain = os.environ.get("AWS_ENDPOINT_URL", "").startswith("http://")
    return {
        "client_options": {"timeout": TIME_OUT, "connect_timeout": "5s", "allow_http": is_plain},
        "retry_config": {"max_retries": 2, "retry_timeout": timedelta(seconds=30)},
    }


def for_duckdb() -> FsspecStore:
    """Return what DuckDB reads buckets by: only the parts of a file that it needs."""
    options = _options() | {"skip_instance_cache": True}
    return FsspecStore("s3", **options)


class _Translated:
    """Errors of obstore as ours; a file that is not there stays FileNotFoundError."""

    def __init__(self, root: str) -> None:
        self.root = root

    def __enter__(self) -> None:
        return

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if isinstance(error, obstore.exceptions.NotFoundError):
            raise FileNotFoundError(str(error)) from None
        if isinstance(error, FileNotFoundError):
            return
        if isinstance(error, obstore.exceptions.BaseError | OSError):
            first = str(error).partition("\n")[0][:300]
            raise ArchiveUnavailable(f"the archive {self.root} cannot be used: {first}") from error


def _to_disk(path: Path) -> None:
    """Have the system write a file or folder out: rows are deleted because it is there."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
