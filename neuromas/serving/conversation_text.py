"""A conversation as the text that a graph is asked: Nodes read one question, in which everything has its speaker."""

from __future__ import annotations

from collections.abc import Iterable

_SPEAKERS = {"system": "System", "developer": "System", "user": "User", "assistant": "Assistant"}


def conversation_text(turns: Iterable[tuple[str, str]]) -> str:
    """Return the one turn's text, or all turns that have one, each with who said it.

    Args:
        turns: (role, text).
    """
    said = [(role, text) for role, text in turns if text]
    if len(said) == 1:
        return said[0][1]
    return "\n\n".join(f"{_SPEAKERS[role]}: {text}" for role, text in said)
