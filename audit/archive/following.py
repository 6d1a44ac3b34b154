"""Leaves of one seal after the other: small ones are read many at once."""

from __future__ import annotations

from bisect import bisect_right
from operator import attrgetter

from audit.archive import catalog
from audit.archive.reading import Archive
from audit.digests import Leaf, Seal
from audit.verify import ArchiveMissing

IDS_AT_ONCE = 20_000


class Following:
    """The rows of an archive for one verification; see `audit.verify.ArchivedRows`.

    Args:
        file: a file to read that no catalog names yet, and the last id in it.
    """

    def __init__(self, archive: Archive, file: tuple[str, int] | None = None) -> None:
        self._archive = archive
        self._file = file
        self._seals = range(0)  # of the file that was read last
        self._ahead: list[Leaf] = []  # in the order of ids, up to this one
        self._up_to = 0

    async def leaves(self, seal: Seal) -> list[Leaf]:
        """Return the rows under a seal, in the order of ids."""
        if seal.id not in self._seals or seal.last_id > self._up_to:
            await self._read(seal)
        first = bisect_right(self._ahead, seal.first_id - 1, key=attrgetter("id"))
        last = bisect_right(self._ahead, seal.last_id, key=attrgetter("id"))
        found, self._ahead = self._ahead[first:last], self._ahead[last:]
        return found

    async def _read(self, seal: Seal) -> None:
        if self._file is not None:
            (name, last), self._seals = self._file, range(seal.id, 2**62)
        else:
            file = await self._archive.find(catalog.OF_SEAL, seal.id)
            if file is None:
                raise ArchiveMissing(f"no file of the archive has the rows of seal {seal.id}")
            name, last = file.name, file.last_id
            self._seals = range(seal.id, file.last_seal + 1)
        self._up_to = max(seal.last_id, min(seal.first_id + IDS_AT_ONCE, last))
        self._ahead = await self._archive.leaves_in(name, seal.first_id, self._up_to)
