"""Checks a folder of `piccolo audit evidence`, its argument, by the rules of seal-format.md.

Keys: AUDIT_SEAL_KEY. Prints a line of JSON, as sealed or the first problem; exits 0 or 1."""
import hashlib, hmac, json, os, struct, sys
from pathlib import Path
WHO, WHAT = 1, 2
SALTS = {0: (0, 16), WHO: (32,), WHAT: (32,), WHO | WHAT: (0,)}
PLAIN = "id action resource is_admin_action created_at".split()
BY, OF = "actor ip_address request_id".split(), "resource_id details".split()
SEAL = """id first_id last_id row_count root removal_count removals_digest key_id previous_digest
    created_at""".split()
REMOVAL = """kind first_id last_id row_count first_seal last_seal rows_digest pseudonym actor
    reason created_at key_id""".split()

class Problem(Exception): pass  # kind, number of the seal, id of the row

def sha(*parts):
    return hashlib.sha256(b"".join(parts)).digest()

def compact(values):
    return json.dumps(values, ensure_ascii=False, separators=(",", ":")).encode()

def leaf_of(row):  # the leaf, its mark, which parts are erased, what stands in their columns
    salt, who, what = (bytes.fromhex(row[x] or "") for x in ("salt", "who_digest", "what_digest"))
    by, of = [row[name] for name in BY], [row[name] for name in OF]
    erased = (row["who_digest"] is not None) * WHO | (row["what_digest"] is not None) * WHAT
    if not erased & WHO:
        who = sha(salt if len(salt) == 32 else sha(b"who", salt), compact(by))
    if not erased & WHAT:
        what = sha(salt if len(salt) == 32 else sha(b"what", salt), compact(of))
    if len(salt) not in SALTS[erased] or len(who) != 32 or len(what) != 32:
        return b"", bytes(8), erased, None
    leaf = sha(b"\x00", who, what, compact([row[name] for name in PLAIN]))
    left = by * bool(erased & WHO) + of * bool(erased & WHAT)
    return leaf, leaf[:4] + who[:4], erased, left

def root_of(leaves):
    if len(leaves) < 2:
        return b"".join(leaves)
    split = 1 << ((len(leaves) - 1).bit_length() - 1)
    return sha(b"\x01", root_of(leaves[:split]), root_of(leaves[split:]))

def digest_of(keys, what, names, values):
    message = compact([what] + [values[name] for name in names])
    key = keys[values["key_id"]]
    return sha(message).hex() if key is None else hmac.new(key, message, "sha256").hexdigest()

def check_removals(removals, keys):  # pseudonyms of who and what was erased, by the ids of rows
    erased = {}
    for each in (each for each in removals if each["key_id"] in keys):
        is_right = digest_of(keys, "removal-v2", REMOVAL, each) == each["digest"]
        entries = bytes.fromhex(each["rows"] or "") if each["kind"] == "erase" else b""
        is_right &= each["kind"] != "erase" or sha(entries).hex() == each["rows_digest"]
        if not is_right or each["kind"] not in ("erase", "archive", "prune"):
            raise Problem("removal_altered", 0)
        for id_, parts in struct.iter_unpack(">qB", entries):
            names = zip(erased.get(id_, (None, None)), (WHO, WHAT))
            erased[id_] = [name or (each["pseudonym"] if parts & x else None) for name, x in names]
    if any(each["key_id"] not in keys for each in removals):
        raise Problem("other_key", None)
    return erased

def check_seal(seal, last, keys, removals):
    number = last["id"] + 1
    if seal["id"] != number:
        raise Problem("seal_removed", number)
    if seal["key_id"] not in keys:
        raise Problem("other_key", number)
    is_right = digest_of(keys, "seal-v2", SEAL, seal) == seal["digest"]
    is_right &= seal["algorithm"] == ("hmac-sha256" if seal["key_id"] else "sha256")
    is_right &= seal["previous_digest"] == last["digest"]
    if not is_right or (last["key_id"] and not seal["key_id"]):
        raise Problem("seal_altered", number)
    known, before = removals[: seal["removal_count"]], last["removal_count"]
    over = sha(*(each["digest"].encode() for each in known)).hex()
    ends = [each["rows_digest"] for each in removals if each["last_seal"] == number]
    if over != seal["removals_digest"] or len(known) < before or {*ends} - {seal["digest"]}:
        raise Problem("removal_altered", number)

def is_gone(seal, removals, kind, mark):
    spans = [(x["first_seal"], x["last_seal"]) for x in removals if x["kind"] == kind]
    is_signed = any(first <= seal["id"] <= last for first, last in spans)
    if is_signed != seal[mark]:
        raise Problem("seal_altered" if is_signed else f"{mark}_unsigned", seal["id"])
    return is_signed

def check_rows(seal, found, erased):
    if root_of([leaf for leaf, *_ in found.values()]).hex() != seal["root"]:
        raise first_difference(seal, {id_: found[id_][1] for id_ in found})
    packed = b"".join(struct.pack(">q8s", x, found[x][1]) for x in found).hex()
    if packed != seal["leaves"] and not seal["archived"]:  # the leaves of those are not kept
        raise Problem("leaves_altered", seal["id"])
    for id_, (_, _, parts, left) in found.items():
        who, what = erased.get(id_, (None, None))
        signed = (who is not None) * WHO | (what is not None) * WHAT
        expected = [who, None, None] * bool(who) + [what, None] * bool(what)
        if (parts, left) != (signed, expected):
            raise Problem("erased_unsigned" if parts & ~signed else "refilled", seal["id"], id_)

def first_difference(seal, now):
    packed = bytes.fromhex(seal["leaves"] or "")
    was = dict(struct.iter_unpack(">q8s", packed[: len(packed) // 16 * 16]))
    gone = {id_: mark for id_, mark in was.items() if now.get(id_) != mark}
    came = {id_: mark for id_, mark in now.items() if was.get(id_) != mark}
    if len(was) != seal["row_count"] or not (gone or came):
        return Problem("archive_altered" if seal["archived"] else "altered", seal["id"])
    row = min([*gone, *came])
    for those, mark in ((gone, came.get(row)), (came, gone.get(row))):
        if mark and any(id_ != row and held[4:] == mark[4:] for id_, held in those.items()):
            return Problem("moved", seal["id"], row)
    kind = "inserted" if row not in was else "altered" if row in now else "removed"
    return Problem(kind, seal["id"], row)

def check(folder, keys):  # how many seals and rows are as they were sealed
    files = [(folder / f"{x}.ndjson").open("rb") for x in ("trail", "removals", "seals", "rows")]
    [trail], [*removals], seals, rows = (map(json.loads, file) for file in files)
    erased = check_removals(removals, keys)
    last = {"id": 0, "digest": None, "key_id": None, "removal_count": 0}
    row, count, vouched = next(rows, None), 0, None
    for seal in seals:
        check_seal(seal, last, keys, removals)
        found = {}
        while row and row["id"] <= seal["last_id"]:
            found[row["id"]], row = leaf_of(row), next(rows, None)
        if is_gone(seal, removals, "prune", "pruned"):
            if found:
                raise Problem("inserted", seal["id"], min(found))
        elif is_gone(seal, removals, "archive", "archived") and not found:
            raise Problem("archive_missing", seal["id"])
        else:
            check_rows(seal, found, erased)
        last, count = seal, count + len(found)
        vouched = seal["removal_count"] if seal["key_id"] and vouched is None else vouched
    if vouched is not None and any(each["key_id"] is None for each in removals[vouched:]):
        raise Problem("removal_altered", last["id"])
    if trail["seals_ever_made"] > last["id"]:
        raise Problem("seal_removed", last["id"] + 1)
    return {"intact": True, "seals": last["id"], "rows": count}

texts = [key.strip().encode() for key in os.environ.get("AUDIT_SEAL_KEY", "").split(",")]
keys = {hmac.new(k, b"groundwork seal key", "sha256").hexdigest()[:16]: k for k in texts if k}
try:
    said = check(Path(sys.argv[1]), {None: None, **keys})
except Problem as problem:
    said = dict(zip(("intact", "kind", "seal", "row"), (False, *problem.args, None)))
except Exception as error:  # torn, or no evidence
    said = {"intact": False, "kind": "unreadable", "error": repr(error)}
print(json.dumps(said))
sys.exit(not said["intact"])
