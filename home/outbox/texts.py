"""What messages say."""

from __future__ import annotations

from typing import NamedTuple

from audit.context import Actor, acting_as
from home.accounts import links
from home.outbox.store import Outgoing
from home.services import Services

LINKS = {
    "invitation": (
        "You are invited",
        "You have an account now. Choose a password with this link, which is good for a week:",
    ),
    "password": (
        "A new password",
        "Somebody, probably you, has forgotten your password. Choose another one with this link,"
        " which is good for an hour. If it was not you, do nothing.",
    ),
    "address": (
        "Is this your address?",
        "Somebody, probably you, wants to sign in with this address from now on. Confirm it with"
        " this link, which is good for an hour. If it was not you, do nothing.",
    ),
}


class Text(NamedTuple):
    """What a message says; `link` is an address, or ""."""

    title: str
    paragraphs: list[str]
    link: str


async def text_of(services: Services, message: Outgoing) -> Text | None:
    """Return what a message says, or None where that is nothing any more.

    The token of a link is made here, at the last moment: what waits in the table opens nothing. One
    of an earlier attempt opens nothing any more.
    """
    settings, content = services.settings, message.content
    base = settings.public_url or ""
    if message.kind.startswith("link."):
        token = await _token(services, message)
        if token is None:
            return None
        title, sentence = LINKS[message.kind.removeprefix("link.")]
        return Text(f"{settings.app_name}: {title}", [sentence], f"{base}/link/{token}")
    title = f"{settings.app_name}: {content['title']}"
    path = content.get("path")
    return Text(title, [content["text"]], f"{base}{path}" if path else "")


async def _token(services: Services, message: Outgoing) -> str | None:
    """Return the token of a link. Where only an address was typed, a link is made now, if it is
    somebody's: so the answer to who typed it takes the same time."""
    with acting_as(Actor("system:outbox")):
        if "link_id" in message.content:
            return await links.token_for(services.db, message.content["link_id"])
        made = await links.of_address(services.db, message.recipient)
        return made and made[1]
