"""DuckDB, which reads and writes the files: one query at a time, bounded in time and memory."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypeAlias, TypeVar

import duckdb

from audit.archive.store import ArchiveUnavailable, Store, for_duckdb

Result = TypeVar("Result")
Cursor: TypeAlias = duckdb.DuckDBPyConnection

MEMORY = "100MB"
SECONDS = 60.0
OPTIONS: dict[str, Any] = {
    "memory_limit": MEMORY,
    "threads": 1,  # what else the process does comes first; rows stay in their order
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
    "enable_external_file_cache": False,  # what is verified is what is there
    "python_enable_replacements": False,
    "preserve_insertion_order": False,  # which row groups bounded by bytes need
}


class Duck:
    """A DuckDB without tables, which knows the store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._connection: Cursor | None = None
        self._turn = asyncio.Lock()

    async def run(self, work: Callable[[Cursor], Result], seconds: float = SECONDS) -> Result:
        """Do something with DuckDB in a thread; who is cancelled interrupts it.

        Raises:
            ArchiveUnavailable: it took too long.
            duckdb.Error: as it comes.
        """
        async with self._turn:
            cursor = self._connected()
            running = asyncio.get_running_loop().run_in_executor(None, work, cursor)
            try:
                await asyncio.wait({running}, timeout=seconds)
                if running.done():
                    return running.result()
                raise ArchiveUnavailable(
                    f"The archive took longer than {seconds:.0f} seconds. Choose less, such as a "
                    "shorter time."
                )
            finally:
                while not running.done():  # it may be between two queries
                    cursor.interrupt()
                    await asyncio.wait({running}, timeout=0.05)
                if not running.cancelled():
                    running.exception()  # it has been seen
                cursor.close()

    def _connected(self) -> Cursor:
        if self._connection is None:
            self._connection = duckdb.connect(config=OPTIONS)
            if self._store.is_s3:
                self._connection.register_filesystem(for_duckdb())
        return self._connection.cursor()
