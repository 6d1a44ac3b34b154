"""Development data: people in every state."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from home.passwords import hash_password
from home.tables import User, UserPreference

SEED_PASSWORD = "groundwork-development"  # noqa: S105  known on purpose; seed refuses in production

PEOPLE: list[dict[str, Any]] = [
    {"email": "ada@example.com", "display_name": "Ada, administrator", "is_admin": True},
    {"email": "mel@example.com", "display_name": "Mel, member"},
    {"email": "wanda@example.com", "display_name": "Wanda, awaits approval", "is_approved": False},
    {"email": "dan@example.com", "display_name": "Dan, left the company", "is_disabled": True},
]


async def seed_people() -> int:
    """Add who is missing; returns how many were."""
    emails = [person["email"] for person in PEOPLE]
    present = await User.select(User.email).where(User.email.is_in(emails)).output(as_list=True)
    missing = [person for person in PEOPLE if person["email"] not in present]
    password_hash = await hash_password(SEED_PASSWORD)
    approval = {"is_approved": True, "approved_at": datetime.now(UTC)}
    for person in missing:
        user = User(password_hash=password_hash, **{**approval, **person})
        await user.save()
        await UserPreference(user_id=user.id, preferences={"theme": "dark"}).save()
    return len(missing)
