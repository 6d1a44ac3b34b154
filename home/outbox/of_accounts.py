"""What there is to tell of accounts and of the trail."""

from __future__ import annotations

from collections.abc import Sequence

from audit.database import Database
from audit.sealing import LATE, waiting
from audit.settings import AuditSettings
from home.outbox.notices import Look, Notice
from home.services import Services

# Once in a quarter of an hour, however many ask.
WAITING = """
    SELECT count(*) AS number, max(id) AS newest FROM users
    WHERE NOT is_approved AND NOT is_disabled
      AND NOT EXISTS (
          SELECT FROM outbox
          WHERE kind = 'people.waiting'
            AND created_at BETWEEN now() - interval '15 minutes' AND now() + interval '1 minute')
"""
# Of the last day: what is older was told, or happened before there was anybody to tell.
SUPERUSERS = """
    SELECT id, resource_id, actor, coalesce(details -> 'after' ->> 'email', (
        SELECT email FROM users WHERE id::text = resource_id)) AS email
    FROM audit_logs
    WHERE action IN ('users.update', 'users.insert') AND created_at > now() - interval '1 day'
      AND details -> 'after' ->> 'is_superuser' = 'true'
      AND NOT EXISTS (SELECT FROM outbox WHERE matter = 'superuser:' || audit_logs.id)
    ORDER BY id LIMIT 10
"""
FAILED_VERIFICATIONS = """
    SELECT id FROM audit_logs
    WHERE action = 'audit.verify' AND created_at > now() - interval '1 day'
      AND details ->> 'intact' = 'false'
"""
# On a device that has no cookie of before; not the first time that somebody comes.
NEW_DEVICES = """
    SELECT a.id, a.resource_id AS email, a.ip_address FROM audit_logs AS a
    WHERE a.action = 'sign_in.succeeded' AND a.created_at > now() - interval '1 day'
      AND a.details ->> 'device' IS NULL AND a.user_id IS NOT NULL
      AND EXISTS (SELECT FROM audit_logs AS b
                  WHERE b.resource = 'sign_in' AND b.resource_id = a.resource_id
                    AND b.action = 'sign_in.succeeded' AND b.id < a.id)
      AND NOT EXISTS (SELECT FROM outbox WHERE matter = 'device:' || a.id)
    ORDER BY a.id LIMIT 1000
"""
PASSWORDS = """
    SELECT a.id, u.email FROM audit_logs AS a JOIN users AS u ON u.id::text = a.resource_id
    WHERE a.action = 'users.update' AND a.created_at > now() - interval '1 day'
      AND a.details -> 'after' ? 'password_hash'
      AND NOT EXISTS (SELECT FROM outbox WHERE matter = 'password:' || a.id)
    ORDER BY a.id LIMIT 1000
"""


def notices(services: Services) -> list[Look]:
    """Return what is looked for."""
    interval = services.settings_of(AuditSettings).audit_seal_interval

    async def unsealed(db: Database) -> Sequence[Notice]:
        if not interval or waiting.seconds <= LATE * interval:
            return []
        hours = waiting.seconds // 3600
        day = await db.fetchval("SELECT now()::date::text")
        text = f"Rows have waited for a seal for {hours} hours. The overview says why."
        return [Notice("trail.not_sealed", f"unsealed:{day}", "The trail is not sealed", text, "/")]

    return [people_waiting, superusers, unsealed, failed_verifications, new_devices, passwords]


async def people_waiting(db: Database) -> Sequence[Notice]:
    """Tell of who waits for approval."""
    row = await db.fetchrow(WAITING)
    if row is None or not row["number"]:
        return []
    number = row["number"]
    title = "1 person waits for approval" if number == 1 else f"{number} people wait for approval"
    text = f"{title}. Nobody is let in before an administrator decides."
    return [Notice("people.waiting", f"waits:{row['newest']}", title, text, "/people")]


async def superusers(db: Database) -> Sequence[Notice]:
    """Tell of who became a superuser."""
    return [
        Notice(
            "people.superuser",
            f"superuser:{row['id']}",
            "A superuser was made",
            f"{row['email']} became a superuser, who may change every account. It was done by"
            f" {row['actor']}.",
            f"/trail/{row['id']}",
        )
        for row in await db.fetch(SUPERUSERS)
    ]


async def failed_verifications(db: Database) -> Sequence[Notice]:
    """Tell of a trail that is not as it was sealed."""
    return [
        Notice(
            "trail.not_intact",
            f"verify:{row['id']}",
            "The trail is not as it was sealed",
            "A verification found something that was altered, removed or inserted.",
            f"/trail/{row['id']}",
        )
        for row in await db.fetch(FAILED_VERIFICATIONS)
    ]


async def new_devices(db: Database) -> Sequence[Notice]:
    """Tell people of a sign-in on a device that they had not signed in on before."""
    return [
        Notice(
            "account.new_device",
            f"device:{row['id']}",
            "A sign-in on a new device",
            f"Somebody signed in as {row['email']}"
            + (f" from {row['ip_address']}" if row["ip_address"] else "")
            + ". If that was not you, end the session and change your password.",
            "/account",
            row["email"],
        )
        for row in await db.fetch(NEW_DEVICES)
    ]


async def passwords(db: Database) -> Sequence[Notice]:
    """Tell people that their password was changed."""
    return [
        Notice(
            "account.password",
            f"password:{row['id']}",
            "Your password was changed",
            "If that was not you, ask an administrator at once.",
            "/account",
            row["email"],
        )
        for row in await db.fetch(PASSWORDS)
    ]
