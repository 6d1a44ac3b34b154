"""Archived rows as they were sealed, for those who prove something of them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING, Any

from audit.archive.columns import ROW
from audit.paging import PAGE

if TYPE_CHECKING:
    from audit.archive.reading import Archive

MOST_BYTES = 8 * 2**20  # of a page, and one row more
SIZES = """
    SELECT id, coalesce(octet_length(encode(details)), 0) + coalesce(octet_length(encode(actor)), 0)
        AS bytes
    FROM read_parquet(?) WHERE id BETWEEN ? AND ? ORDER BY id
"""
ROWS = f"SELECT {ROW} FROM read_parquet(?) WHERE id BETWEEN ? AND ? ORDER BY id"  # noqa: S608


async def sealed_rows(
    archive: Archive, name: str, first: int, last: int
) -> AsyncIterator[list[tuple[Any, ...]]]:
    """Yield rows of a file between two ids in pages: values of `audit.digests.ROW`."""
    for start, end in _parts(await archive.query([name], SIZES, first, last)):
        found = await archive.query([name], ROWS, start, end)
        yield [_sealed(*row.values()) for row in found]


def _parts(sizes: list[dict[str, Any]]) -> Iterator[tuple[int, int]]:
    """Yield the first and the last id of each page."""
    part, size = list[int](), 0
    for row in sizes:
        part.append(row["id"])
        size += row["bytes"]
        if len(part) == PAGE or size > MOST_BYTES:
            yield part[0], part[-1]
            part, size = [], 0
    if part:
        yield part[0], part[-1]


def _sealed(id_: int, action: str, resource: str, is_admin: bool, moment: int, *rest: Any) -> Any:
    return id_, action, resource, is_admin, moment.to_bytes(8, "big", signed=True), *rest
