"""Devices in words: "Firefox on Linux", from what a browser says of itself.

A few plain rules; of what they do not know the first word is shown, such as `curl/8.5.0`.
"""

from __future__ import annotations

import re

# The first that fits; most claim to be several others, too.
BROWSERS = (
    ("Edge", r"Edg(e|A|iOS)?/"),
    ("Opera", r"OPR/|Opera"),
    ("Samsung Internet", r"SamsungBrowser/"),
    ("Firefox", r"Firefox/|FxiOS/"),
    ("Chrome", r"Chrome/|Chromium/|CriOS/"),
    ("Safari", r"Version/.*Safari/"),
)
SYSTEMS = (
    ("iPhone", r"iPhone"),
    ("iPad", r"iPad"),
    ("Android", r"Android"),
    ("Windows", r"Windows"),
    ("ChromeOS", r"CrOS"),
    ("macOS", r"Mac OS X|Macintosh"),
    ("Linux", r"Linux|X11"),
)
UNKNOWN = "Unknown device"


def in_words(user_agent: str | None) -> str:
    """Return the browser and the system of a User-Agent header, as far as they are known."""
    text = (user_agent or "")[:500]
    browser, system = _first(BROWSERS, text), _first(SYSTEMS, text)
    if browser and system:
        return f"{browser} on {system}"
    words = [word for word in text.split() if word.isprintable()]
    return browser or system or (words[0][:40] if words else UNKNOWN)


def _first(rules: tuple[tuple[str, str], ...], text: str) -> str | None:
    return next((name for name, pattern in rules if re.search(pattern, text)), None)
