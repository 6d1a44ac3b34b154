"""Webhooks as Standard Webhooks describes them: signed, with an id to know duplicates by.

https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from ipaddress import ip_address, ip_network
from typing import Any

from home.config.outgoing import trusted
from home.config.settings import Settings
from home.outbox.connections import ERRORS, Connections, Headers
from home.outbox.delivery import NotDelivered, Send
from home.outbox.store import Outgoing

SECONDS = 10.0
# Behind these may be any IPv4 address: NAT64, 6to4, and what was to be compatible.
TRANSLATED = [ip_network(text) for text in ("64:ff9b::/95", "64:ff9b:1::/48", "2002::/16", "::/96")]


class Webhooks:
    """Sends messages to `WEBHOOK_URL`; whoever has `WEBHOOK_SECRET` can tell that it was us."""

    def __init__(self, settings: Settings) -> None:
        assert settings.webhook_secret is not None  # the settings want both
        self.settings = settings
        secret = settings.webhook_secret.get_secret_value()
        self.key = base64.b64decode(secret.removeprefix("whsec_"))

    @asynccontextmanager
    async def sending(self) -> AsyncIterator[Send]:
        """Have what delivers one message; connections are used again within the block."""
        connections = Connections(trusted(), self._look)
        try:
            yield partial(self.send, connections)
        finally:
            await connections.close()

    async def send(self, connections: Connections, message: Outgoing) -> None:
        """Deliver a message.

        Raises:
            NotDelivered: the receiver did not take it, or may not be asked.
        """
        content = {name: message.content.get(name) for name in ("title", "text")}
        base, path = self.settings.public_url or "", message.content.get("path")
        data = {**content, "url": f"{base}{path}" if path else None}
        now = datetime.now(UTC)
        text = {"type": message.kind, "timestamp": now.isoformat(), "data": data}
        body = json.dumps(text).encode()
        try:
            async with asyncio.timeout(SECONDS):
                headers = self.headers(message.uuid, body)
                status = await connections.post(message.recipient, headers, body)
        except ERRORS as error:
            raise NotDelivered(type(error).__name__) from None
        if not 200 <= status < 300:  # no redirect is followed
            raise NotDelivered(f"The receiver answered {status}.", for_good=status == 410)

    def headers(self, uuid: str, body: bytes) -> Headers:
        """Return the headers of a request, its signature among them."""
        id_, moment = uuid.encode(), str(int(time.time())).encode()
        signed = hmac.digest(self.key, b".".join((id_, moment, body)), hashlib.sha256)
        return [
            (b"content-type", b"application/json"),
            (b"user-agent", b"groundwork"),
            (b"webhook-id", id_),
            (b"webhook-timestamp", moment),
            (b"webhook-signature", b"v1," + base64.b64encode(signed)),
        ]

    async def _look(self, event: str, info: dict[str, Any]) -> None:
        """Send nothing to where only this machine's neighbours can be reached: judged by the
        address that is connected to (https://www.encode.io/httpcore/extensions/#trace)."""
        if event != "connection.connect_tcp.complete" or self.settings.webhook_private:
            return
        stream = info["return_value"]
        if is_internal(stream.get_extra_info("server_addr")[0]):
            await stream.aclose()
            raise NotDelivered("It leads to an internal address; WEBHOOK_PRIVATE allows that.")


def is_internal(address: str) -> bool:
    """Return whether an IP address is this machine, or one that the internet cannot reach."""
    found = ip_address(address)
    # An IPv4 address may come in the clothes of an IPv6 one.
    plain = getattr(found, "ipv4_mapped", None) or found
    is_translated = any(plain in network for network in TRANSLATED)
    return is_translated or plain.is_multicast or not plain.is_global
