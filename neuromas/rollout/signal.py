"""Signals: the texts that travel along edges."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class Signal(NamedTuple):
    """What one Node tells a successor.

    Attributes:
        sender: id of the Node that wrote it.
        text: the Node's message, special tokens removed; may be empty.
    """

    sender: str
    text: str


def keep_end(token_ids: Sequence[int], limit: int | None) -> Sequence[int]:
    """Return the last ``limit`` tokens of a signal, all of them when ``limit`` is None.

    The end is kept because a message states its result last.
    """
    if limit is None or len(token_ids) <= limit:
        return token_ids
    return token_ids[-limit:]
