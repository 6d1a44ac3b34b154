"""What people change of their own account themselves, but for the password."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from home.tables import User

# No control characters, and none that is invisible or turns the direction of what follows.
PRINTABLE = r"^[^\x00-\x1f\x7f-\x9f\u00ad\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff]*$"
Name = Annotated[str, Field(max_length=255, pattern=PRINTABLE)]


def printable_name(text: object) -> str | None:
    """Return a name that others may see, or None where it is none."""
    fits = isinstance(text, str) and re.fullmatch(PRINTABLE, text) and len(text) <= 255
    return str(text) if fits else None


class Profile(BaseModel):
    """The part of an account that others see; what is not set stays as it is."""

    model_config = ConfigDict(extra="forbid", strict=True)

    display_name: Name | None = None
    organization: Name | None = None


async def change(user_id: int, profile: Profile) -> dict[str, Any]:
    """Store what is set of a profile; return it."""
    values: dict[Any, Any] = profile.model_dump(exclude_unset=True)
    if values:
        await User.update(values).where(User.id == user_id)
    return values
