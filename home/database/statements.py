"""What a statement may do, judged by its text: unknown means that it may."""

from __future__ import annotations

import re
from functools import lru_cache

from audit.context import SETTING

# Comments and literals, in which words mean nothing. Dollar quotes are left: what they hold counts.
SKIPPED = re.compile(r"--[^\n]*|/\*(?:(?!/\*|\*/).)*\*/|'(?:[^']|'')*'|\"[^\"]*\"", re.DOTALL)
READS = re.compile(r"[\s(]*(?:select|table|values|show|with)\b", re.IGNORECASE)
# A word that changes something, a second statement, a comment in a comment, an escape string.
SUSPICIOUS = re.compile(
    r"\b(?:insert|update|delete|merge|into|call|share|truncate|nextval)\b|;\s*\S|/\*|\be''",
    re.IGNORECASE,
)
CALLS = re.compile(r"(\"|(?<![\w.])[a-z_][\w.]*)\s*\(", re.IGNORECASE)
# What stands before a bracket in a query and changes nothing. Others may be functions that do.
HARMLESS_WORDS = """
    all and any array as between by case cast distinct else exists filter from group having in join
    lateral limit materialized not on or order over partition recursive row select set then union
    using values when where with within
    abs age array_agg array_length array_position bool_and bool_or btrim cardinality ceil
    char_length clock_timestamp coalesce concat concat_ws count current_database current_schema
    current_setting date_part date_trunc extract floor format greatest json_agg json_build_object
    jsonb_agg jsonb_array_elements jsonb_build_object jsonb_each jsonb_each_text jsonb_object_agg
    least left length lower ltrim make_interval max md5 min now nullif numeric percentile_cont
    position regexp_replace replace right round row_number row_to_json rtrim split_part
    statement_timestamp string_agg strpos substr substring sum timestamp timestamptz to_char
    to_date to_json to_jsonb to_regclass to_timestamp trim unnest upper varchar
"""
HARMLESS = frozenset(HARMLESS_WORDS.split())

# Statements that leave something behind in the session: their connection has no next user.
# Too many matches cost a reconnect, too few would leak, so this errs on the side of matching.
LEAVES_STATE = re.compile(
    r"""(^|;)\s* ( set \s+ (?! (local|constraints|transaction)\b )
                | (listen|prepare|load) \s
                | declare \s .* \b with \s+ hold
                | create \s+ ((local|global)\s+)? temp )
      | \binto \s+ ((local|global)\s+)? temp
      | \bpg_(try_)?advisory_lock
      | \bset_config \s* \( (?! [^()]* ,\s* true \s* \) )""",
    re.IGNORECASE | re.VERBOSE | re.DOTALL,
)

# What is left out where a statement is shown elsewhere: comments, and all that may be a value.
# Identifiers in quotes stay.
VALUES = re.compile(
    r"""--[^\n]*|/\*.*?\*/|\be'(?:[^'\\]|\\.|'')*'|'(?:[^']|'')*'|(\$\w*\$).*?\1|"[^"]*"
      | (?<![\w.$])\d+(?:\.\d+)?\b""",
    re.IGNORECASE | re.DOTALL | re.VERBOSE,
)
LONGEST_SHOWN = 2_000


@lru_cache(maxsize=2048)
def may_write(sql: str) -> bool:
    """Return False only for a plain read, whose every function is known to change nothing."""
    text = SKIPPED.sub(_emptied, sql)
    if READS.match(text) is None or SUSPICIOUS.search(text) is not None:
        return True
    return any(name.lower() not in HARMLESS for name in CALLS.findall(text))


def _emptied(found: re.Match[str]) -> str:
    return {"'": "''", '"': '"'}.get(found.group()[0], " ")


@lru_cache(maxsize=2048)
def needs_actor(sql: str) -> bool:
    """Return whether a statement has to run in a transaction that names who acts.

    A statement that sets the actor itself does without: the setting is local to its own
    transaction, at whose end the row trigger reads it.
    """
    return may_write(sql) and SETTING not in sql


@lru_cache(maxsize=1024)
def leaves_state(sql: str) -> bool:
    """Return whether a statement may change what the next user of its connection would see."""
    return LEAVES_STATE.search(sql) is not None


@lru_cache(maxsize=1024)
def without_values(sql: str) -> tuple[str, str]:
    """Return the operation of a statement, and its text without values; of a long one no text."""
    if re.fullmatch(r"[a-z_.]+", sql) is not None:  # the table of a COPY
        return "COPY", sql
    is_long = len(sql) > 4 * LONGEST_SHOWN
    text = " ".join(VALUES.sub(_shown, sql[:200] if is_long else sql).split())
    word = re.match(r"[\s(]*([a-z]+)\b", text, re.IGNORECASE)
    shown = "" if is_long else text.partition("'")[0][:LONGEST_SHOWN]
    return word[1].upper() if word else "SQL", shown


def _shown(found: re.Match[str]) -> str:
    text = found.group()
    if text.startswith('"'):
        return text
    return " " if text.startswith(("--", "/*")) else "?"
