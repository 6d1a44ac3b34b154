"""`piccolo audit erase`: what it would take away, and taking it away."""

from __future__ import annotations

import json as json_

import asyncpg

from audit.apps import Services
from audit.archived import archive_of
from audit.cli import CommandError, WrongOption, command
from audit.configured import piccolo_conf
from audit.digests import SealKeys
from audit.erase import Erasure, NobodyToErase, would_erase
from audit.erase import erase as erase_person
from audit.progress import progress
from audit.settings import AuditSettings

UNREACHED = """\
This does not reach backups, archived WAL, logs, exports, and mails that were sent. Replicas follow;
what tables freed is overwritten in time, or by VACUUM."""


@command
async def erase(
    services: Services, person: int, reason: str = "", yes: bool = False, json: bool = False
) -> None:
    """Erase a person: the account and all that goes with it, and in the trail who they were and
    what was recorded about them. What they did to others stays readable, under a pseudonym, and
    the trail still verifies. Without --yes it only says what would go. It cannot be undone.

    :param person: the number of the account; it may be deleted already
    :param reason: why, which is signed with AUDIT_SEAL_KEY and stays: name nobody in it
    :param yes: erase, instead of saying what would go
    :param json: print the result as JSON

    """
    if not 0 < person < 2**31:
        raise WrongOption("--person needs the number of an account")
    if yes and not reason.strip():
        raise WrongOption("--reason is missing: why is this person erased?")
    erasers = [each for _, each in piccolo_conf().APP_REGISTRY.all("erasers", services)]
    try:
        archive = archive_of(services)
        found = await would_erase(services.db, erasers, person, archive)
        if yes:
            keys = SealKeys.of(services.settings_of(AuditSettings))
            with progress("erasing", found.rows) as advance:
                found = await erase_person(
                    services.db, keys, erasers, person, reason.strip(), advance, archive
                )
    except NobodyToErase:
        raise CommandError(f"there is no person {person}, and the trail knows of none") from None
    except asyncpg.InsufficientPrivilegeError:
        message = "this role may not erase: use the DATABASE_URL of the role that owns the tables"
        raise CommandError(message) from None
    if json:
        print(json_.dumps({**vars(found), "done": yes}))
    else:
        print(_in_words(found, done=yes))


def _in_words(found: Erasure, *, done: bool) -> str:
    tables = ", ".join(f"{name} {rows}" for name, rows in sorted(found.tables.items()) if rows)
    lines = [
        f"{'erased' if done else 'would erase'} person {found.person}, known as"
        f" {', '.join(found.names)}; the trail calls them {found.pseudonym} now",
        f"  the trail: {found.rows} rows; of {found.who} who did it, of {found.what} what was done"
        + (f"; {found.archived} are in the archive" if found.archived else ""),
        f"  other rows: {tables or 'none'}",
    ]
    return "\n".join([*lines, UNREACHED if done else "do it with --yes --reason=..."])
