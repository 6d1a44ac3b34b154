"""Where browsers are sent on: to sign in and back, to a start page, and on with a message.

A message travels in a cookie for the one page that follows, so that no address can make up one.
"""

from __future__ import annotations

import base64
import json
from typing import NamedTuple
from urllib.parse import quote, urlsplit

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from home.accounts.sessions import SignedIn, request_info

SIGN_IN, ACCOUNT, OVERVIEW, TRAIL = "/sign-in", "/account", "/", "/trail"
LONGEST_PATH = 2_000
LONGEST_MESSAGE = 1_000
LONGEST_COOKIE = 9_000  # such a message, escaped, in base 64
MESSAGE_SECONDS = 60
SAFE = ("GET", "HEAD")


class Message(NamedTuple):
    """A sentence about what was done, for the next page.

    Args:
        failed: whether it was refused, rather than done.
    """

    text: str
    failed: bool = False


def start_of(person: SignedIn) -> str:
    """Return where a person begins who asked for no page in particular."""
    if person.is_admin:
        return OVERVIEW
    return TRAIL if person.is_auditor else ACCOUNT


def local_path(text: str) -> str:
    """Return a path of this site, or "" where a browser could read something else into it."""
    is_plain = text.isascii() and text.isprintable() and " " not in text and "\\" not in text
    if not is_plain or not text.startswith("/") or len(text) > LONGEST_PATH:
        return ""
    if text.startswith("//") or f"{urlsplit(text).path}/".startswith(f"{SIGN_IN}/"):
        return ""
    return text


def to_sign_in(request: Request) -> Response:
    """Send somebody to sign in, and from there back to the page that they were on."""
    place = f"{SIGN_IN}?next={quote(path, safe='/')}" if (path := _page_of(request)) else SIGN_IN
    if is_partial(request):  # a redirect would put the whole page into a part of this one
        return Response(status_code=401, headers={"hx-redirect": place})
    return RedirectResponse(place, 303)


def is_partial(request: Request) -> bool:
    """Return whether htmx asks, for a part of a page."""
    return "hx-request" in request.headers


def _page_of(request: Request) -> str:
    """Return the page that somebody looks at: a form's is the one that it stands on."""
    if request.method in SAFE and not is_partial(request):
        return local_path(request.url.path + ("?" + request.url.query if request.url.query else ""))
    try:
        page = urlsplit(request.headers.get("hx-current-url") or request.headers.get("referer", ""))
    except ValueError:  # no address
        return ""
    if page.netloc != request.headers.get("host"):
        return ""
    return local_path(page.path + ("?" + page.query if page.query else ""))


def redirect(path: str, message: str = "", *, failed: bool = False) -> Response:
    """Return the answer to a form that was sent: another page (303), with a message.

    Args:
        path: of this site.
        message: a sentence about what was done; plain text.
        failed: whether it was refused, rather than done.
    """
    response = RedirectResponse(path, 303)
    if message:
        content = json.dumps([message[:LONGEST_MESSAGE], failed]).encode()
        _set_cookie(response, base64.urlsafe_b64encode(content).decode().rstrip("="))
    return response


def message_of(request: Request) -> Message | None:
    """Return the message that came with a redirect; it is for one page, see `forget_message`."""
    value = request.cookies.get(_cookie_name(), "")
    if not value or len(value) > LONGEST_COOKIE:
        return None
    try:
        match json.loads(base64.urlsafe_b64decode(value + "=" * (-len(value) % 4))):
            case [str(text), bool(failed)] if text.isprintable():
                return Message(text, failed)
    except (ValueError, RecursionError):
        pass  # not one of ours
    return None


def forget_message(response: Response) -> None:
    """Take the message back, now that it was shown."""
    _set_cookie(response, "")


def _cookie_name() -> str:
    return "__Host-message" if request_info.get().is_secure else "message"


def _set_cookie(response: Response, value: str) -> None:
    response.set_cookie(
        _cookie_name(), value, MESSAGE_SECONDS if value else 0,
        httponly=True, samesite="lax", secure=request_info.get().is_secure,
    )  # fmt: skip
