"""Rows that were archived, for whoever reads the trail; without AUDIT_ARCHIVE there are none.

The package `audit.archive` is imported only where it is set.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Protocol

from audit.apps import Services
from audit.database import Queries
from audit.errors import GroundworkError
from audit.filters import Filters
from audit.sentences import Row
from audit.settings import AuditSettings
from audit.verify import ArchivedRows

if TYPE_CHECKING:
    from audit.archive.reading import Archive
    from audit.reading import Page

INSTALL = "pip install duckdb obstore fsspec"


class NoArchiveExtra(GroundworkError):
    """AUDIT_ARCHIVE is set, and what it needs is not installed."""


class OldRows(ArchivedRows, Protocol):
    """The trail with its archive.

    Raises (any method):
        ArchiveUnavailable: the archive cannot be reached, or takes too long.
        ArchiveMissing: a file is not there.
        ArchiveUnreadable: a file is there, and is none of ours any more.
    """

    async def page(self, filters: Filters, before: int | None, size: int, db: Queries) -> Page:
        """Return a page of both, see `audit.reading.page`."""

    async def row(self, id_: int) -> Row | None:
        """Return a row that was archived, whole, if there is one with this id."""

    def stream(
        self, filters: Filters, after: int, up_to: int
    ) -> AsyncIterator[tuple[list[Row], int]]:
        """Yield rows of the files that hold some of two ids, the first exclusive, by their ids;
        with each the last id that was passed."""


_archives: dict[tuple[int, str, str | None], Archive] = {}


def archive_of(services: Services) -> Archive | None:
    """Return the archive of an application, which AUDIT_ARCHIVE names.

    Raises:
        NoArchiveExtra: packages are missing.
    """
    settings = services.settings_of(AuditSettings)
    place, lock = settings.audit_archive, settings.audit_archive_lock
    if not place:
        return None
    known = (id(services.db), place, lock)
    if known not in _archives:
        try:
            from audit.archive.reading import Archive
        except ModuleNotFoundError as error:
            message = f"AUDIT_ARCHIVE needs {error.name}, which is not installed: {INSTALL}"
            raise NoArchiveExtra(message) from None
        _archives[known] = Archive(services.db, place, lock)
    return _archives[known]
