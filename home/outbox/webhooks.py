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

import httpx

from home.config.outgoing import trusted
from home.config.settings import Settings
from home.outbox.delivery import NotDelivered, Send
from home.outbox.store import AT_ONCE, Outgoing

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
        limits = httpx.Limits(max_connections=AT_ONCE)
        async with httpx.AsyncClient(
            verify=trusted(), timeout=SECONDS, trust_env=False, limits=limits
        ) as client:
            yield partial(self.send, client)

    async def send(self, client: httpx.AsyncClient, message: Outgoing) -> None:
        """Deliver a message.

        Raises:
            NotDelivered: the receiver did not take it, or may not be asked.
        """
        content = {name: message.content.get(name) for name in ("title", "text")}
        base, path = self.settings.public_url or "", message.content.get("path")
        data = {**content, "url": f"{base}{path}" if path else None}
        now = datetime.now(UTC)
        body = json.dumps({"type": message.kind, "timestamp": now.isoformat(), "data": data})
        headers = self.headers(message.uuid, body)
        try:
            async with asyncio.timeout(SECONDS):
                request = client.build_request(
                    "POST", message.recipient, content=body, headers=headers
                )
                request.extensions["trace"] = self._look
                response = await client.send(request, stream=True)
                await response.aclose()  # what it says interests nobody
        except NotDelivered:
            raise
        except (httpx.HTTPError, httpx.InvalidURL, OSError, UnicodeError) as error:
            raise NotDelivered(type(error).__name__) from None
        if not response.is_success:  # no redirect is followed
            gone = response.status_code == 410
            raise NotDelivered(f"The receiver answered {response.status_code}.", for_good=gone)

    def headers(self, uuid: str, body: str) -> dict[str, str]:
        """Return the headers of a request, its signature among them."""
        moment = str(int(time.time()))
        signed = hmac.digest(self.key, f"{uuid}.{moment}.{body}".encode(), hashlib.sha256)
        return {
            "content-type": "application/json",
            "user-agent": "groundwork",
            "webhook-id": uuid,
            "webhook-timestamp": moment,
            "webhook-signature": f"v1,{base64.b64encode(signed).decode()}",
        }

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
