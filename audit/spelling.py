"""What somebody meant who mistyped a name."""

from __future__ import annotations

from collections.abc import Iterable


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return a question that names what is nearest to a word, or an empty text."""
    from difflib import get_close_matches  # only for who mistyped

    found = get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f" Did you mean {found[0]}?" if found else ""
