"""`piccolo audit ...`: seal, prove, read, export and shorten the trail."""

from __future__ import annotations

import sys
from dataclasses import asdict
from json import dumps, loads
from pathlib import Path
from typing import cast

from audit.apps import Services
from audit.archive_command import archive as archive
from audit.archived import archive_of
from audit.cli import CommandError, WrongOption, command, moment, past
from audit.digests import SealKeys
from audit.erase_command import erase as erase
from audit.errors import DatabaseUnavailable
from audit.evidence_command import evidence as evidence
from audit.export import FORMATS, Export, Format, to_ndjson
from audit.files import new_file
from audit.filters import Filters
from audit.history import HistoryTable, history_of, print_plainly
from audit.progress import progress
from audit.proof_commands import check_proof as check_proof
from audit.proof_commands import prove as prove
from audit.prune import due
from audit.prune import prune as remove
from audit.seals import seal as seal_all
from audit.settings import AuditSettings
from audit.summary import count_sealed
from audit.verify import HIGHEST_SEAL, Verification, exported_seals, record_result
from audit.verify import verify as verify_all

UNSEALED = """
    SELECT count(*) FROM audit_logs WHERE id > (SELECT coalesce(max(last_id), 0) FROM audit_seals)
"""
IDS = "SELECT least(max(id)::numeric - min(id) + 1, 1e15)::bigint FROM audit_logs"
SEALS_OF_A_TIME = """
    SELECT min(id) AS first, max(id) AS last FROM audit_seals
    WHERE ($1::timestamptz IS NULL OR created_at >= $1)
      AND ($2::timestamptz IS NULL OR created_at < $2)
"""
SEALED = "SELECT coalesce(sum(row_count), 0)::bigint FROM audit_seals WHERE pruned_at IS NULL"


@command
async def seal(services: Services, patience: int = 60) -> None:
    """Seal all rows of the trail that are not sealed yet. Writers are not stopped. With
    AUDIT_SEAL_KEY nobody without the key can make or mend a seal.

    :param patience: seconds to wait for transactions that are writing now

    """
    if patience < 0:
        raise WrongOption("--patience needs a number of seconds, 0 or more")
    rows = await services.db.fetchval(UNSEALED)
    with progress("sealing", rows) as advance:
        done = await seal_all(services.db, _keys(services), patience=patience, progress=advance)
        await count_sealed(services.db)
    under = f"sealed {counted(done.rows, 'row')} under {counted(done.seals, 'seal')}"
    print(under if done.seals else "nothing to seal")


@command
async def verify(
    services: Services, seals: str = "", json: bool = False, since: str = "", until: str = ""
) -> None:
    """Is the trail what was sealed? Names the first row or seal that was altered, removed, inserted
    or moved, and exits 1; or exits 0. Puts what it found on the trail, where the server takes
    changes.

    :param seals: a file from `piccolo audit seals`, kept elsewhere: each seal in it must be there
    :param json: print the result as JSON
    :param since: only seals made from this date or time on; the one before them is believed
    :param until: only seals made before this date or time

    """
    kept = read_seals(Path(seals)) if seals else {}
    first, last = await _part(services, since, until)
    archive = archive_of(services)
    rows = await services.db.fetchval(SEALED)
    with progress("verifying", rows) as advance:
        report = await verify_all(
            services.db,
            _keys(services),
            kept=kept,
            progress=advance,
            archive=archive.following() if archive else None,
            first=first,
            last=last,
        )
    intact = report.problem is None
    print(dumps({"intact": intact, **asdict(report)}) if json else _in_words(report), flush=True)
    try:
        await record_result(services.db, report)
    except DatabaseUnavailable as error:  # a standby can be verified, too
        print(f"This verification is not on the trail: {error}", file=sys.stderr)
    if not intact:
        sys.exit(1)


async def _part(services: Services, since: str, until: str) -> tuple[int, int]:
    """Return the first and the last seal of a time."""
    if not since and not until:
        return 1, HIGHEST_SEAL
    first = moment("since", since) if since else None
    last = moment("until", until) if until else None
    row = await services.db.fetchrow(SEALS_OF_A_TIME, first, last)
    if row is None or row["first"] is None:
        raise CommandError("no seal was made in this time")
    return row["first"], row["last"] if until else HIGHEST_SEAL


def _in_words(report: Verification) -> str:
    lines = [
        f"verified {counted(report.verified, 'row')} under {counted(report.seals, 'seal')}"
        f" ({counted(report.pruned, 'row')} pruned before, {report.unsealed} not sealed yet)"
    ]
    if report.seals_without_key:
        lines.append(
            f"{counted(report.seals_without_key, 'seal')} without AUDIT_SEAL_KEY:"
            " whoever can write to the database could have made them"
        )
    if report.problem:
        lines.append(f"NOT AS SEALED: {report.problem.message}")
    return "\n".join(lines)


@command
async def seals(services: Services, output: str = "") -> None:
    """Print all seals, one JSON object a line, to be kept where nobody who can write to the
    database can change them: `piccolo audit verify --seals=FILE` then finds even a trail that was
    cut off together with its seals.

    :param output: a new file to write instead of standard output

    """
    with new_file(output) as out:
        async for line in exported_seals(services.db):
            out.write(line)


@command
async def export(
    services: Services,
    output: str = "",
    format: str = "ndjson",
    since: str = "",
    until: str = "",
    actor: str = "",
    action: str = "",
    resource: str = "",
    resource_id: str = "",
    user: str = "",
) -> None:
    """Print the trail, oldest first: all of it, or what all given options select. The export is
    itself put on the trail. Times are UTC unless they say otherwise.

    :param output: a new file to write instead of standard output
    :param format: ndjson (one JSON object a line), or csv for spreadsheets
    :param since: from this date or time on, as 2026-01-31 or 2026-01-31T12:00
    :param until: before this date or time
    :param actor: who it was, as ada@example.com or cli:ada
    :param action: what happened, as users.update
    :param resource: to which table or thing, as users
    :param resource_id: to which row of it
    :param user: the id of the user who did it

    """
    if format not in FORMATS:
        raise WrongOption(f"--format is one of {', '.join(FORMATS)}")
    filters = Filters(
        since=moment("since", since) if since else None,
        until=moment("until", until) if until else None,
        actor=actor or None,
        action=action or None,
        resource=resource or None,
        resource_id=resource_id or None,
        user_id=_number("user", user),
    )
    with new_file(output) as out:
        ids = await services.db.fetchval(IDS)
        with progress("exporting", ids) as advance:
            running = Export(
                services.db, filters, cast(Format, format), advance, archive_of(services)
            )
            try:
                async with services.db.reading() as connection:
                    async for chunk in running.chunks(connection):
                        out.write(chunk)
            finally:
                await running.record()
    if output:
        print(f"exported {counted(running.rows, 'row')} to {output}")


@command
async def prune(services: Services, before: str, yes: bool = False) -> None:
    """Remove rows older than a date, in whole seals, oldest first. Without --yes it only says what
    would go. Seals stay, so that the rest can still be verified; the removal is put on the trail.
    First everything is verified: what is not as it was sealed is not removed.

    :param before: rows before this date or time may go, as 2025-01-31; UTC unless it says otherwise
    :param yes: remove them, instead of saying what would go

    """
    when = await past("before", before, services.db)
    archive = archive_of(services)
    if (going := await due(services.db, when, archive)) is None:
        print("nothing to remove: no seal covers only rows as old as that")
        return
    what = f"{counted(going.rows, 'row')} (up to id {going.last_id})"
    what += f", all before {when:%Y-%m-%d %H:%M} UTC"
    if not yes:
        print(f"would remove {what}; do it with --yes")
        return
    rows = await services.db.fetchval(SEALED)
    with progress("verifying, removing", rows + going.rows) as advance:
        gone = await remove(services.db, when, _keys(services), advance, archive)
    print(f"removed {counted(gone.rows if gone else 0, 'row')}; their seals stay")


@command
async def history(services: Services, resource: str, resource_id: str, json: bool = False) -> None:
    """Print what happened to one record, oldest first: who changed what, when and from where, as in
    `piccolo audit history users 42`. Exits 1 when the trail knows nothing of it.

    :param resource: the table, as users
    :param resource_id: the row's primary key
    :param json: print one JSON object a line, as export does

    """
    found = False
    table = None if json or not sys.stdout.isatty() else HistoryTable()
    async for page in history_of(services.db, resource, resource_id, archive_of(services)):
        found = True
        if json:
            sys.stdout.buffer.write(to_ndjson(page))
            continue
        for row in page:
            (table.add if table else print_plainly)(row)
    if not found:
        raise CommandError(f"the trail holds nothing about {resource} {resource_id}")
    if table:
        table.print()


def _keys(services: Services) -> SealKeys:
    return SealKeys.of(services.settings_of(AuditSettings))


def counted(number: int, what: str) -> str:
    """Return «1 seal», «2 seals»."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _number(option: str, text: str) -> int | None:
    if text and not (text.isascii() and text.isdigit() and int(text) < 2**31):
        raise WrongOption(f"--{option} needs a number below 2147483648")
    return int(text) if text else None


def read_seals(path: Path) -> dict[int, str]:
    """Return digests by the numbers of seals, from a file that `piccolo audit seals` wrote."""
    kept: dict[int, str] = {}
    try:
        with path.open(encoding="utf-8") as file:
            for line in file:
                seal = loads(line)
                kept[int(seal["id"])] = str(seal["digest"])
    except OSError as error:
        raise CommandError(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, TypeError, KeyError, RecursionError):
        message = f"{path}, line {len(kept) + 1}: is not a seal as `piccolo audit seals` prints it"
        raise CommandError(message) from None
    if not kept:
        raise CommandError(f"{path} holds no seals: write it with `piccolo audit seals` first")
    return kept
