"""The end of an error message about a word that is not one of the allowed ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches


def suggest(got: str, allowed: Mapping[str, object] | Sequence[str]) -> str:
    """Return the end of an error message: the nearest allowed word, if any, and all allowed ones."""
    near = get_close_matches(got, list(allowed), n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return f"{hint}allowed are {', '.join(allowed)}"
