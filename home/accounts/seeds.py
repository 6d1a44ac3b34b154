"""Development data: people in every state."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from home.tables import User, UserPreference

SEED_PASSWORD = "groundwork-development"  # noqa: S105  known on purpose; seed refuses in production

PEOPLE: list[dict[str, Any]] = [
    {"username": "ada@example.com", "display_name": "Ada, administrator", "is_admin": True},
    {"username": "mel@example.com", "display_name": "Mel, member"},
    {
        "username": "wanda@example.com",
        "display_name": "Wanda, awaits approval",
        "is_approved": False,
    },
    {"username": "dan@example.com", "display_name": "Dan, left the company", "is_disabled": True},
]


async def seed_people() -> int:
    """Add who is missing; return how many were."""
    emails = [person["username"] for person in PEOPLE]
    present = await User.select(User.email).where(User.email.is_in(emails)).output(as_list=True)
    missing = [person for person in PEOPLE if person["username"] not in present]
    approval = {"is_approved": True, "approved_at": datetime.now(UTC)}
    for person in missing:
        user = await User.create_user(password=SEED_PASSWORD, **{**approval, **person})
        await UserPreference(user_id=user.id, preferences={"theme": "dark"}).save()
    return len(missing)
