"""Rows that were archived, read again: under a seal, by id, as a page, and all in order."""

from __future__ import annotations

import asyncio
from array import array
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import duckdb

from audit.archive import catalog
from audit.archive.catalog import File
from audit.archive.columns import MOMENT, SELECTED, where
from audit.archive.duck import SECONDS, Cursor, Duck, Result
from audit.archive.leaves import leaves
from audit.archive.store import Store
from audit.database import Database, Queries
from audit.digests import Leaf, Seal, SealKeys
from audit.filters import Filters
from audit.paging import INLINE_BYTES
from audit.prune import Pruned
from audit.reading import Page
from audit.sentences import Row
from audit.verify import ArchivedRows, ArchiveMissing, ArchiveUnreadable

LONG_SECONDS = 3_600.0  # of writing a file, or reading many rows that are large
IN_A_PAGE = 1_000  # rows of a stream, each of up to INLINE_BYTES; larger ones come alone
COLUMNS = ", ".join(SELECTED)
IS_LARGE = f"strlen(details) > {INLINE_BYTES} OR strlen(actor) > {INLINE_BYTES}"
# Without what is large.
CUT = ", ".join(
    f"CASE WHEN is_large THEN NULL ELSE {name} END AS {name}"
    if name in ("actor", "details")
    else name
    for name in SELECTED
)
PLACE = f"SELECT {MOMENT} AS moment FROM read_parquet(?) WHERE id = ?"  # noqa: S608  constants only
ROW = f"SELECT {COLUMNS} FROM read_parquet(?) WHERE id = ?"  # noqa: S608  constants only


class Place(NamedTuple):
    """Where a row stands in the order of pages; the moment in microseconds since 2000."""

    moment: int
    id: int


class Archive:
    """The archive of a trail; see `audit.archived.OldRows`.

    Args:
        db: of its catalog, which is read on the primary: a replica may know of fewer files.
        place: as AUDIT_ARCHIVE has it.
        lock: as AUDIT_ARCHIVE_LOCK has it: for how long files cannot be deleted.
    """

    def __init__(self, db: Database, place: str, lock: str | None = None) -> None:
        self.db = db
        self.lock = lock
        self.store = Store(place)
        self._duck = Duck(self.store)
        self._writer = Duck(self.store)  # nobody who reads waits for who writes

    async def leaves(self, seal: Seal) -> list[Leaf]:
        """Return the rows under a seal, in the order of ids."""
        file = await self.find(catalog.OF_SEAL, seal.id)
        if file is None:
            raise ArchiveMissing(f"no file of the archive has the rows of seal {seal.id}")
        return await self.leaves_in(file.name, seal.first_id, seal.last_id)

    def following(self) -> ArchivedRows:
        """Return the same for one verification, which is faster for one seal after the other."""
        from audit.archive.following import Following

        return Following(self)

    async def leaves_in(self, name: str, first: int, last: int) -> list[Leaf]:
        """Return those of a file between two ids."""
        path = self.store.path(name)

        def read(cursor: Cursor) -> list[Leaf]:
            return leaves(cursor, path, first, last)

        return await self.run([name], read, LONG_SECONDS)

    async def sealed(
        self, seal: Seal, row: int | None = None
    ) -> AsyncIterator[list[tuple[Any, ...]]]:
        """Yield rows under a seal, or one of them, as they were sealed; see `audit.digests.ROW`."""
        from audit.archive.sealed import sealed_rows

        file = await self.find(catalog.OF_SEAL, seal.id)
        if file is None:
            raise ArchiveMissing(f"no file of the archive has the rows of seal {seal.id}")
        first, last = (seal.first_id, seal.last_id) if row is None else (row, row)
        async for page in sealed_rows(self, file.name, first, last):
            yield page

    async def row(self, id_: int) -> Row | None:
        """Return a row, whole, if there is one with this id."""
        file = await self.find(catalog.OF_ROW, id_)
        found = await self.query([file.name], ROW, id_) if file else []
        return found[0] if found else None

    async def place(self, id_: int) -> Place | None:
        """Return where a row stands, if there is one with this id."""
        file = await self.find(catalog.OF_ROW, id_)
        if file is None:
            return None
        found = await self.query([file.name], PLACE, id_)
        return Place(found[0]["moment"], id_) if found else None

    async def page(self, filters: Filters, before: int | None, size: int, db: Queries) -> Page:
        """Return a page of table and archive, see `audit.reading.page`."""
        from audit.archive.pages import page

        return await page(self, db, filters, before, size)

    async def prunable(self, before: datetime) -> Pruned | None:
        """Return what is in files that hold only what is older than a moment."""
        from audit.archive.pruning import due_files, pruned

        files = await due_files(self.db, before)
        return pruned(files) if files else None

    async def prune(
        self, keys: SealKeys, before: datetime, progress: Callable[[int], None]
    ) -> Pruned | None:
        """Remove these files."""
        from audit.archive.pruning import prune_files

        return await prune_files(self, keys, before, progress)

    async def stream(
        self, filters: Filters, after: int, up_to: int
    ) -> AsyncIterator[tuple[list[Row], int]]:
        """Yield rows of the files that hold some of two ids, the first exclusive, with the last id
        passed: that of the whole file at its end. Nothing is held while somebody takes them."""
        while file := await self.find(catalog.AFTER, after, up_to):
            condition, values = where(filters)
            ids = await self._ids(file, condition, values, after)
            for start in range(0, len(ids), IN_A_PAGE):
                part = ids[start : start + IN_A_PAGE]
                async for rows in self._whole(file, condition, [part[0], part[-1], *values]):
                    yield rows, rows[-1]["id"]
            yield [], file.last_id
            after = file.last_id

    async def _ids(
        self, file: File, condition: str, values: Sequence[Any], after: int
    ) -> array[int]:
        sql = f"SELECT id FROM read_parquet(?) WHERE id > ? AND {condition}"  # noqa: S608

        def read(cursor: Cursor) -> array[int]:
            found = array("q")
            cursor.execute(sql, [self.store.path(file.name), after, *values])
            while rows := cursor.fetchmany(10_000):
                found.extend(row[0] for row in rows)
            return array("q", sorted(found))

        return await self.run([file.name], read)

    async def _whole(
        self, file: File, condition: str, values: Sequence[Any]
    ) -> AsyncIterator[list[Row]]:
        """Yield some rows of a file, those that are large by themselves."""
        sql = f"""
            SELECT {CUT}, is_large FROM (
                SELECT *, coalesce({IS_LARGE}, false) AS is_large FROM read_parquet(?)
                WHERE id BETWEEN ? AND ? AND {condition}
            ) ORDER BY id
        """  # noqa: S608
        page = list[Row]()
        for row in await self.query([file.name], sql, *values):
            if not row.pop("is_large"):
                page.append(row)
                continue
            if page:
                yield page
                page = []
            yield list[Row](await self.query([file.name], ROW, row["id"]))
        if page:
            yield page

    async def write(self, work: Callable[[Cursor], None]) -> None:
        """Do something with files that are not stored yet, however long it takes."""
        await self._writer.run(work, LONG_SECONDS)

    async def find(self, sql: str, *args: int) -> File | None:
        """Return the file that a statement of the catalog finds."""
        async with self.db.connection() as connection:
            return await catalog.one(connection, sql, *args)

    async def query(self, names: Sequence[str], sql: str, *args: Any) -> list[dict[str, Any]]:
        """Return rows of some files, which are the first parameter."""
        paths = [self.store.path(name) for name in names]

        def read(cursor: Cursor) -> list[dict[str, Any]]:
            cursor.execute(sql, [paths, *args])
            columns = [each[0] for each in cursor.description or ()]
            return [dict(zip(columns, row, strict=True)) for row in cursor.fetchall()]

        return await self.run(names, read)

    async def run(
        self, names: Sequence[str], work: Callable[[Cursor], Result], seconds: float = SECONDS
    ) -> Result:
        """Do something with files.

        Raises:
            ArchiveMissing: one is not there.
            ArchiveUnreadable: one is no file of ours.
            ArchiveUnavailable: the store does not answer, or it takes too long.
        """
        try:
            return await self._duck.run(work, seconds)
        except (duckdb.Error, OSError, UnicodeError, OverflowError) as error:
            for name in names:
                try:
                    await asyncio.to_thread(self.store.size, name)
                except FileNotFoundError:
                    raise ArchiveMissing(f"the archive has no file {name}") from None
            first = next(iter(str(error).strip().splitlines()), "")[:300]
            listed = ", ".join(names[:3])
            raise ArchiveUnreadable(f"{listed} in the archive cannot be read: {first}") from error
