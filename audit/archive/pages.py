"""A page of the trail over table and archive: in one order, as if nothing had been moved.

The table comes first. Files are looked at only where rows of theirs may be newer than the last one
of the page: where it goes on to the end of the table, or rows were written late.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from audit.archive import catalog
from audit.archive.catalog import File
from audit.archive.columns import EPOCH, FARTHEST, MOMENT, SELECTED, where
from audit.archive.reading import Archive, Place
from audit.archive.store import ArchiveUnavailable
from audit.database import Queries
from audit.filters import Filters
from audit.paging import INLINE_BYTES
from audit.reading import Gone, Page, page_of_table
from audit.sentences import Row
from audit.verify import ArchiveMissing, ArchiveUnreadable

LOWEST = -(2**63)  # -infinity, and the end of the trail
FIND = """
    SELECT id, {moment} AS moment FROM read_parquet(?)
    WHERE {condition} AND {bounds} ORDER BY created_at DESC, id DESC LIMIT {limit}
"""
CUT = {
    "details": f"CASE WHEN strlen(details) <= {INLINE_BYTES} THEN details END AS details",
    "actor": "left(actor, 300) AS actor",
}
FETCH = f"""
    SELECT {", ".join(CUT.get(each, each) for each in SELECTED)},
           coalesce(strlen(details) > {INLINE_BYTES}, false) AS is_large, true AS is_archived
    FROM read_parquet(?) WHERE id IN ({{ids}})
"""  # noqa: S608  constants only
PLACES = "SELECT id, timestamptz_send(created_at) AS sent FROM audit_logs WHERE id = any($1)"


async def page(
    archive: Archive, db: Queries, filters: Filters, before: int | None, size: int
) -> Page:
    """Return a page. Where the archive cannot be read, it has the rows of the table, and says so.

    Raises:
        Gone: there is no row `before`.
        ArchiveUnavailable, ArchiveMissing, ArchiveUnreadable: there are only rows of the archive,
            and it cannot be read.
    """
    found, start = await _of_table(archive, db, filters, before, size)
    async with archive.db.connection() as connection:
        files = await catalog.of_time(connection, filters.since, filters.until, found.next)
        if not files:
            return found
        ids = [row["id"] for row in found.rows] + [id_ for id_ in (before, found.next) if id_]
        rows = await connection.fetch(PLACES, ids)
    places = {row["id"]: Place(catalog.moment(row["sent"]), row["id"]) for row in rows}
    if start is not None:
        places[start.id] = start
    if any(id_ not in places for id_ in ids):  # archived since
        return await page(archive, db, filters, before, size)
    try:
        return await _Merging(archive, filters, found, places, before, size).with_older(files)
    except (ArchiveUnavailable, ArchiveMissing, ArchiveUnreadable) as error:
        if not found.rows:
            raise
        return found._replace(next=None, looked=None, unreached=str(error))


async def _of_table(
    archive: Archive, db: Queries, filters: Filters, before: int | None, size: int
) -> tuple[Page, Place | None]:
    """Return a page of the table, and where it begins, if that is a row of the archive."""
    try:
        return await page_of_table(db, filters, before, size), None
    except Gone:
        start = await archive.place(before or 0)
        if start is None:
            raise
        at = EPOCH + timedelta(microseconds=max(start.moment, FARTHEST))
        return await page_of_table(db, filters, before, size, at), start


class _Merging:
    """A page of the table, to which rows of files are added."""

    def __init__(
        self,
        archive: Archive,
        filters: Filters,
        found: Page,
        places: dict[int, Place],
        before: int | None,
        size: int,
    ) -> None:
        self.archive, self.filters, self.found, self.size = archive, filters, found, size
        self.start = places[before] if before is not None else None
        self.end = places[found.next] if found.next is not None else None
        self.hot = {row["id"]: row for row in found.rows}
        self.places = {places[id_] for id_ in self.hot}

    async def with_older(self, files: Sequence[File]) -> Page:
        """Return the page with rows of files, which come the newest first."""
        files = [each for each in files if self._may_matter(each)]
        remaining, at_once = files, 1
        while remaining and not self._is_settled(remaining[0]):
            part, remaining = remaining[:at_once], remaining[at_once:]
            self.places |= await self._find(part)
            at_once *= 2
        places = sorted(self.places, reverse=True)
        older = await self._fetch(files, [each.id for each in places[: self.size]])
        rows = [(older | self.hot)[each.id] for each in places[: self.size]]
        if len(places) > self.size:
            return Page(rows, places[self.size - 1].id, None)
        looked = None if len(rows) == self.size else self.found.looked
        return Page(rows, self.found.next, looked)

    def _may_matter(self, file: File) -> bool:
        is_older = self.start is None or file.oldest <= self.start.moment
        return is_older and (self.end is None or file.newest >= self.end.moment)

    def _is_settled(self, file: File) -> bool:
        """Return whether the page is full of rows that are newer than all of a file."""
        places = sorted(self.places, reverse=True)
        return len(places) > self.size and places[self.size].moment > file.newest

    async def _find(self, files: Sequence[File]) -> set[Place]:
        condition, values = where(self.filters)
        bounds = ["true"]
        for how, place in (("<", self.start), (">", self.end)):
            if place is not None:
                bounds.append(f"(({MOMENT}), id) {how} (?, ?)")
                values += place
        sql = FIND.format(
            moment=MOMENT, condition=condition, bounds=" AND ".join(bounds), limit=self.size + 1
        )
        found = await self.archive.query([each.name for each in files], sql, *values)
        return {Place(row["moment"], row["id"]) for row in found}

    async def _fetch(self, files: Sequence[File], ids: Sequence[int]) -> dict[int, Row]:
        """Return rows of files, by their ids."""
        wanted = [id_ for id_ in ids if id_ not in self.hot]
        names = [
            each.name
            for each in files
            if any(each.first_id <= id_ <= each.last_id for id_ in wanted)
        ]
        if not names:
            return {}
        sql = FETCH.format(ids=", ".join(map(str, wanted)))
        return {row["id"]: row for row in await self.archive.query(names, sql)}
