"""The table of messages."""

from __future__ import annotations

from typing import Any

from piccolo.columns import JSONB, UUID, BigSerial, Integer, Timestamptz, Varchar
from piccolo.constraints import Unique
from piccolo.table import Table


class Message(Table, tablename="outbox"):
    """A message that waits to be delivered, was delivered, or is dead, see home.outbox.store."""

    id: Any = BigSerial(primary_key=True)
    uuid = UUID(help_text="The same at each attempt, for receivers to know duplicates by.")
    channel = Varchar(length=10, default=None, help_text="mail or webhook.")
    recipient = Varchar(length=500, default=None)
    kind = Varchar(length=40, default=None)
    matter = Varchar(length=200, null=True, default=None, help_text="Told once to each.")
    content = JSONB(default="{}", help_text="Empty once it was delivered.")
    created_at = Timestamptz()
    next_at = Timestamptz(help_text="When the next attempt is due.")
    attempts = Integer(default=0)
    claimed_until = Timestamptz(null=True, default=None, help_text="A process delivers it.")
    error = Varchar(length=300, null=True, default=None)
    sent_at = Timestamptz(null=True, default=None)
    dead_at = Timestamptz(null=True, default=None)

    outbox_matter_channel_recipient_unique = Unique([matter, channel, recipient])
