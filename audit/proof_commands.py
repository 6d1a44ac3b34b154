"""`piccolo audit prove`, and `piccolo audit check_proof` for those who have no database."""

from __future__ import annotations

import itertools
import json as json_
import sys
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from audit.apps import Services
from audit.archived import archive_of
from audit.cli import CommandError, WrongOption, command
from audit.digests import WHAT, WHO, SealKeys
from audit.exported import Chain, NotProven, exported
from audit.files import new_file
from audit.ids import HIGHEST
from audit.printable import printable
from audit.proofs import Proof, from_json, to_json, without
from audit.proofs import prove as prove_row
from audit.settings import AuditSettings

SENT_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
SHOWN = 500  # characters
KEYS = {
    "checked": "made with AUDIT_SEAL_KEY, which proves who made them",
    "unchecked": "with a key that is not known here: that they are genuine rests on the file",
    "keyless": "without a key: whoever could write to the database could have made them",
}


@command
async def prove(
    services: Services,
    row: int,
    output: str = "",
    without_who: bool = False,
    without_what: bool = False,
) -> None:
    """Print a proof that a row is in the trail as it was sealed, which can be given to others: it
    shows them this row and no other. They need a file of `piccolo audit seals`, too.

    :param row: its id; it has to be sealed
    :param output: a new file to write instead of standard output
    :param without_who: leave out actor, address and request; the rest is proven all the same
    :param without_what: leave out the record's key and the details

    """
    if not -HIGHEST <= row <= HIGHEST:
        raise WrongOption("--row needs the id of a row")
    made = await prove_row(services.db, row, archive_of(services))
    proof = to_json(without(made, WHO * without_who | WHAT * without_what))
    with new_file(output) as out:
        out.write(json_.dumps(proof, ensure_ascii=False).encode() + b"\n")


@command
async def check_proof(
    services: Services, proof: str = "", seals: str = "", older: str = "", json: bool = False
) -> None:
    """Check a proof against seals that were kept, and say what is proven; exits 1 if nothing is.
    It asks no database and needs no key. With AUDIT_SEAL_KEY the seals are checked by it, too.

    :param proof: a file from `piccolo audit prove`; without one only the seals are checked
    :param seals: a file from `piccolo audit seals`
    :param older: an earlier one: all its seals have to be in the newer, too
    :param json: print the result as JSON

    """
    if not seals or not (proof or older):
        raise WrongOption("--seals and a proof, or --older, are needed")
    made = read_proof(Path(proof)) if proof else None
    chain = Chain(Path(seals), SealKeys.of(services.settings_of(AuditSettings)))
    problem = None
    try:
        same = _follow(chain, made, Path(older) if older else None)
    except NotProven as error:
        same, problem = 0, str(error)
    if json:
        found = {"proven": problem is None, "row": made and made.row[0], "seals": chain.count}
        print(json_.dumps({**found, "keys": chain.kinds, "older": same, "problem": problem}))
    elif problem:
        print(f"NOT PROVEN: {printable(problem)}")
    else:
        print("\n".join([*(_about(made) if made else ()), *_about_seals(chain, older, same)]))
    if problem:
        sys.exit(1)


def read_proof(path: Path) -> Proof:
    """Return the proof in a file.

    Raises:
        CommandError: there is none in it.
    """
    try:
        return from_json(json_.loads(path.read_bytes()))
    except OSError as error:
        raise CommandError(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError):
        raise CommandError(f"{path} is not a proof as `piccolo audit prove` prints it") from None


def _follow(chain: Chain, proof: Proof | None, older: Path | None) -> int:
    """Check all there is to check; return the number of older seals.

    Raises:
        NotProven: it does not hold.
    """
    is_found, same = proof is None, 0
    before = exported(older) if older else iter(())
    for seal, old in itertools.zip_longest(chain, before):
        if seal is None or (old is not None and old != seal):
            raise NotProven(f"seal {old.seal.id} of {older} is not in {chain.path} as it was")
        same += old is not None
        if proof and proof.seal.seal.id == seal.seal.id:
            proof.check(seal)
            is_found = True
    if proof and not is_found:
        raise NotProven(f"seal {proof.seal.seal.id} is not in {chain.path}")
    return same


def _about(proof: Proof) -> list[str]:
    row, seal, leaf = _named(proof), proof.seal.seal, proof.leaf
    who = f"{_short(row['actor'])}, from {_short(row['ip_address'])}, {_short(row['request_id'])}"
    what = f"{_short(row['resource_id'])}; details: {_short(row['details'])}"
    admin = ", in the back office" if row["is_admin_action"] else ""
    return [
        f"Proven: row {leaf.id} is under seal {seal.id}, as number {proof.index + 1} of"
        f" {proof.size}, and was the same when that was made, {seal.created_at:%Y-%m-%d %H:%M} UTC",
        f"  when: {_moment(row['created_at'])}",
        f"  who:  {'erased, or left out; a commitment is there' if leaf.erased & WHO else who}",
        f"  what: {_short(row['action'])}{admin}, of {_short(row['resource'])}"
        f" {'erased, or left out; a commitment is there' if leaf.erased & WHAT else what}",
    ]


def _named(proof: Proof) -> Mapping[str, Any]:
    said = to_json(proof)["row"]
    nothing = dict.fromkeys(("actor", "ip_address", "request_id", "resource_id", "details"))
    return {**nothing, **said["who"], **said["what"], **said}


def _short(value: str | None) -> str:
    if value is None:
        return "-"
    return printable(value if len(value) <= SHOWN else f"{value[:SHOWN]}… ({len(value)})")


def _moment(microseconds: int) -> str:
    try:
        return f"{SENT_EPOCH + timedelta(microseconds=microseconds):%Y-%m-%d %H:%M:%S.%f} UTC"
    except OverflowError:
        return f"{microseconds} microseconds from 2000-01-01 UTC"


def _about_seals(chain: Chain, older: str, same: int) -> list[str]:
    lines = [f"{chain.path}: a chain of {chain.count} seals, none missing between"]
    lines += [f"  {chain.kinds[kind]} {KEYS[kind]}" for kind in KEYS if chain.kinds[kind]]
    if older:
        lines.append(f"  the {same} seals of {printable(older)} are its beginning, unaltered")
    return lines
