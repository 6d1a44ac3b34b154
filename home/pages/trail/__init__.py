"""The trail in the browser: what happened in words, each change in full, and the seals."""

from __future__ import annotations

from home.pages.trail.changes import one_change, proof, record_life
from home.pages.trail.entries import entries, export
from home.pages.trail.seals import SealPages
from home.services import Services
from home.web.pages import Page
from home.web.people import Who
from home.web.redirects import TRAIL


def pages(services: Services) -> list[Page]:
    """Return the pages; all but *Verify now* and proofs are for auditors, too."""
    return [
        Page(TRAIL, entries, Who.READERS, "Trail"),
        Page(f"{TRAIL}/export", export, Who.READERS),
        *SealPages(services).pages(),
        Page(f"{TRAIL}/{{id:int}}", one_change, Who.READERS),
        Page(f"{TRAIL}/{{id:int}}/proof.json", proof, Who.ADMINISTRATORS),
        Page(f"{TRAIL}/of/{{table}}/{{key:path}}", record_life, Who.READERS),
    ]
