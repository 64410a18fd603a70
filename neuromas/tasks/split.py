"""The splits of questions that a program draws: a quarter of them, chosen by what is drawn, is held out."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import blake2b
from typing import TypeVar

from neuromas.tasks.base import Split

Drawn = TypeVar("Drawn")


def is_held_out(key: bytes) -> bool:
    """Whether a question belongs to the quarter of all that is never trained on, whatever the seed and the settings.

    Args:
        key: what the question is told apart by, such as its text.
    """
    return blake2b(key).digest()[0] % 4 == 0


def draw_in_split(split: Split, draw: Callable[[], Drawn], key: Callable[[Drawn], bytes]) -> Drawn:
    """Return the first draw that belongs to a split."""
    while is_held_out(key(drawn := draw())) != (split == "test"):
        continue
    return drawn
