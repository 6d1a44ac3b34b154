"""Mail by SMTP: plain text and HTML, with the same id at each attempt."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from email.message import EmailMessage
from email.utils import formatdate
from html import escape
from urllib.parse import unquote, urlsplit

import aiosmtplib

from home.outbox.delivery import NotDelivered, NothingToSay, Send
from home.outbox.store import Outgoing
from home.outbox.texts import Text, text_of
from home.services import Services

SECONDS = 20.0
PORTS = {"smtp": 587, "smtps": 465}


class Mailer:
    """Sends messages by the server of `SMTP_URL`: smtps:// by TLS, smtp:// by STARTTLS, if the
    server offers it, and always where it is to be told a password."""

    def __init__(self, services: Services) -> None:
        self.services = services
        settings = services.settings
        assert settings.smtp_url is not None  # else nobody asks
        assert settings.mail_from is not None  # the settings want both
        parts = urlsplit(settings.smtp_url.get_secret_value())
        self.sender = settings.mail_from
        self.server = {
            "hostname": parts.hostname,
            "port": parts.port or PORTS[parts.scheme],
            "username": unquote(parts.username) if parts.username else None,
            "password": unquote(parts.password) if parts.password else None,
            "use_tls": parts.scheme == "smtps",
            # None: where it is offered.
            "start_tls": True if parts.scheme == "smtp" and parts.username else None,
        }

    @asynccontextmanager
    async def sending(self) -> AsyncIterator[Send]:
        """Have what delivers one message."""
        yield self.send

    async def send(self, message: Outgoing) -> None:
        """Deliver a message to the server.

        Raises:
            NotDelivered: it did not take it.
            NothingToSay: there is nothing to deliver any more.
        """
        text = await text_of(self.services, message)
        if text is None:
            raise NothingToSay
        mail = self.mail(message, text)
        try:
            async with asyncio.timeout(SECONDS):
                await aiosmtplib.send(mail, timeout=SECONDS, **self.server)  # type: ignore[arg-type]
        except aiosmtplib.SMTPResponseException as error:
            # 5xx is for good (RFC 5321, section 4.2.1) where it is about this mail.
            is_final = error.code >= 500 and isinstance(error, aiosmtplib.SMTPDataError)
            raise NotDelivered(f"The server answered {error.code}.", for_good=is_final) from None
        except aiosmtplib.SMTPRecipientsRefused as error:
            is_final = all(each.code >= 500 for each in error.recipients)
            raise NotDelivered("The server refused the address.", for_good=is_final) from None
        except (aiosmtplib.SMTPException, OSError, ssl.SSLError, ValueError) as error:
            raise NotDelivered(type(error).__name__) from None

    def mail(self, message: Outgoing, text: Text) -> EmailMessage:
        """Return a message as a mail."""
        mail = EmailMessage()
        mail["From"], mail["To"] = self.sender, message.recipient
        mail["Subject"] = text.title
        mail["Date"] = formatdate()
        domain = self.sender.rpartition("@")[2].strip("> ")
        mail["Message-ID"] = f"<{message.uuid}@{domain}>"
        mail["Auto-Submitted"] = "auto-generated"  # RFC 3834: no answers by machines
        mail.set_content("\n\n".join([*text.paragraphs, *filter(None, [text.link])]) + "\n")
        paragraphs = "".join(f"<p>{escape(each)}</p>" for each in text.paragraphs)
        link = f'<p><a href="{escape(text.link)}">{escape(text.link)}</a></p>' if text.link else ""
        mail.add_alternative(f"<html><body>{paragraphs}{link}</body></html>", subtype="html")
        return mail
