"""A file of the archive: the rows of whole seals as Parquet, each seal a row group of its own.

Rows come as CSV, in parts that are bounded by bytes, since DuckDB works on 2,048 rows at once
however large they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from audit.archive.columns import COPIED, STORED
from audit.archive.duck import Cursor
from audit.database import Connection, Record
from audit.digests import Seal

PART_BYTES = 4 * 2**20  # of a part, and one row more
LEAST_LINE = 2**20  # that DuckDB is told to expect
COPY_SECONDS = 600.0
# Where a seal is cut: the last id of each part.
PARTS = f"""
    SELECT max(id) AS last_id FROM (
        SELECT id, sum(coalesce(octet_length(details::text), 0) + coalesce(octet_length(actor), 0))
                   OVER (ORDER BY id) / {PART_BYTES} AS part
        FROM audit_logs WHERE id BETWEEN $1 AND $2
    ) AS rows GROUP BY part ORDER BY 1
"""  # noqa: S608  constants only
COPY = f"""
    SELECT {", ".join(COPIED.values())} FROM audit_logs
    WHERE id BETWEEN {{first:d}} AND {{last:d}} ORDER BY id
"""  # noqa: S608  numbers only: COPY takes no parameters
TYPES = ", ".join(f"'{name}': '{type_}'" for name, (type_, _) in STORED.items())
# Quoted is what is text, and what is not quoted is NULL. It is read in one piece: what a row holds
# must not pass for the beginning of another one.
CSV = f"""
    SELECT {", ".join(made for _, made in STORED.values())}
    FROM read_csv(?, auto_detect = false, header = false, delim = ',', quote = '"',
                  escape = '"', nullstr = '', allow_quoted_nulls = false, new_line = '\\n',
                  parallel = false, max_line_size = {{line}}, buffer_size = {{line}},
                  columns = {{{{{TYPES}}}}})
"""  # noqa: S608  constants and a number
WRITE = """
    COPY ({rows}) TO '{target}' (
        FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE 10000, ROW_GROUP_SIZE_BYTES '16MB',
        KV_METADATA {{groundwork: '{metadata}'}}
    )
"""


async def copy_out(connection: Connection, seal: Seal, folder: Path) -> list[Path]:
    """Write the rows of a seal into files; return them, in the order of ids."""
    files = list[Path]()
    first = seal.first_id
    for row in await connection.fetch(PARTS, seal.first_id, seal.last_id):
        file = folder / f"{seal.id:012d}-{len(files):06d}.csv"
        await _copy(connection, first, row["last_id"], file)
        first = row["last_id"] + 1
        files.append(file)
    return files


async def _copy(connection: Connection, first: int, last: int, file: Path) -> None:
    await connection.copy_from_query(
        COPY.format(first=first, last=last), output=file, format="csv", force_quote=True,
        encoding="utf8", timeout=COPY_SECONDS,
    )  # fmt: skip


class Rows(NamedTuple):
    """Rows to be written: a query for DuckDB, in the order of ids, and its parameters."""

    sql: str
    values: list[Any]


def from_csv(parts: Sequence[Path]) -> Rows:
    """Return the rows in files of `copy_out`."""
    line = max(LEAST_LINE, *(part.stat().st_size + 2 for part in parts))
    return Rows(CSV.format(line=line), [[str(part) for part in parts]])


def write(cursor: Cursor, rows: Rows, metadata: str, target: Path) -> None:
    """Make a file.

    Args:
        metadata: hexadecimal digits, spaces and the like: no quotes.
        target: in a folder of ours.
    """
    sql = WRITE.format(rows=rows.sql, target=target, metadata=metadata)
    cursor.execute(sql, rows.values)


def describe(seals: Sequence[Record]) -> str:
    """Return what a file says of itself: format, seals, the last one's digest, and its key."""
    first, last = seals[0]["id"], seals[-1]
    key = last["key_id"] or "none"
    return f"format 2 seals {first}-{last['id']} digest {last['digest']} key {key}"
