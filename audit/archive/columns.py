"""The columns of a file, and how they are read: as PostgreSQL gives those of the table."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from audit.context import storable
from audit.filters import Filters
from audit.rows import COLUMNS

# As they come from PostgreSQL, and what DuckDB makes of them.
STORED = {
    "id": ("BIGINT", "id"),
    "created_at": (
        "BIGINT",
        "CASE WHEN created_at = -9223372036854775807 THEN '-infinity'::TIMESTAMPTZ "
        "ELSE make_timestamptz(created_at) END AS created_at",
    ),
    "actor": ("VARCHAR", "actor"),
    "user_id": ("INTEGER", "user_id"),
    "action": ("VARCHAR", "action"),
    "resource": ("VARCHAR", "resource"),
    "resource_id": ("VARCHAR", "resource_id"),
    "details": ("VARCHAR", "details"),
    "ip_address": ("VARCHAR", "ip_address"),
    "request_id": ("VARCHAR", "request_id"),
    "is_admin_action": ("BOOLEAN", "is_admin_action"),
    "salt": ("VARCHAR", "unhex(salt) AS salt"),
    "who_digest": ("VARCHAR", "unhex(who_digest) AS who_digest"),
    "what_digest": ("VARCHAR", "unhex(what_digest) AS what_digest"),
}
# In PostgreSQL, for COPY.
MICROSECONDS = """
    CASE WHEN isfinite(created_at) THEN (extract(epoch FROM created_at) * 1000000)::bigint
         ELSE -9223372036854775807 END
"""
COPIED = {name: name for name in STORED} | {
    "created_at": MICROSECONDS,
    "salt": "encode(salt, 'hex')",
    "who_digest": "encode(who_digest, 'hex')",
    "what_digest": "encode(what_digest, 'hex')",
}

# Microseconds since 2000, as PostgreSQL keeps moments; the lowest number is -infinity.
MOMENT = """
    CASE WHEN isfinite(created_at) THEN epoch_us(created_at) - 946684800000000
         ELSE -9223372036854775807 - 1 END
"""
EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
FARTHEST = -(1999 * 365 * 86_400 * 10**6)  # of moments before it that Python can say
UTC_TIME = "make_timestamp(epoch_us(created_at))"
# As `audit.rows.CREATED_AT`.
CREATED_AT = f"""
    CASE WHEN isfinite(created_at) THEN
        printf('%04d', CASE WHEN year({UTC_TIME}) > 0 THEN year({UTC_TIME})
                            ELSE 1 - year({UTC_TIME}) END)
        || rtrim(rtrim(strftime({UTC_TIME}, '-%m-%dT%H:%M:%S.%f'), '0'), '.')
        || CASE WHEN year({UTC_TIME}) > 0 THEN 'Z' ELSE ' BCZ' END
    ELSE '-infinityZ' END AS created_at
"""
SELECTED = tuple(CREATED_AT if column == "created_at" else column for column in COLUMNS)
# As `audit.digests.ROW`.
ROW = f"""
    id, action, resource, is_admin_action, {MOMENT} AS moment, actor, ip_address, request_id,
    resource_id, details, salt, who_digest, what_digest
"""
TESTS = {
    "since": "created_at >= make_timestamptz(?)",
    "until": "created_at < make_timestamptz(?)",
    "column": "action LIKE '%.update' AND CASE json_type(details, '$.after')"
    " WHEN 'OBJECT' THEN list_contains(json_keys(details, '$.after'), ?) ELSE false END",
}


def microseconds(moment: datetime) -> int:
    """Return a moment as DuckDB counts: since 1970."""
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def where(filters: Filters) -> tuple[str, list[Any]]:
    """Return the same condition as `Filters.where`, for DuckDB, and its parameters."""
    given = filters.given()
    tests = [TESTS.get(name, f"{name} = ?") for name in given]
    values = [
        microseconds(value) if isinstance(value, datetime) else storable(value)
        for value in given.values()
    ]
    return " AND ".join(tests) or "true", values
