"""How queued prompts are read: what one begins with as another does is copied from it, the rest is computed in passes.

Pure numpy; the rows are those of ``row_cache``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]

PASS_TOKENS: Final = 4096
"""Tokens of one pass, padding included; a longer prompt is a pass of its own."""
_WORTH: Final = 4
"""Tokens more that a row must be able to copy for each turn that it waits: a turn is a pass more."""
_TURNS: Final = 4
"""Turns at most: worked examples, a question, a message and the rest may each be shared by fewer rows."""
_MIN_PASS: Final = 256
"""Tokens below which a pass is filled up with shorter rows rather than ended: a pass has costs of its own."""
_FULL: Final = 0.8
"""Length of the shortest row of a pass over that of its longest, once the pass has ``_MIN_PASS`` tokens."""


@dataclass(frozen=True, slots=True)
class Share:
    """What a new row begins with as another row does.

    Attributes:
        source: the other row; the row itself where it copies nothing.
        length: tokens in common, of what is read before the last token.
        turn: when the row is read: one turn after its source where that is new, too, else in the first, 0.
    """

    source: int
    length: int
    turn: int


def find_shares(prompts: Sequence[Sequence[int]], policies: Sequence[object], first: int) -> list[Share]:
    """Return what each row from ``first`` on copies, of the rows before it.

    Args:
        prompts: of all rows, at least one token each; the rows before ``first`` have been read.
        policies: what reads each row; only rows of one policy share.
        first: of the new rows.
    """
    lengths = np.array([len(prompt) - 1 for prompt in prompts])
    tokens = np.full((len(prompts), int(lengths.max(initial=0)) + 1), -1, dtype=np.int64)
    for row, prompt in enumerate(prompts):
        tokens[row, : lengths[row]] = prompt[:-1]
    numbers = {policy: number for number, policy in enumerate(dict.fromkeys(policies))}
    of_row = np.array([numbers[policy] for policy in policies])
    follows = np.zeros(len(prompts), dtype=np.int64)  # the turn of a row that copies this one
    shares = []
    for row in range(first, len(prompts)):
        sources = np.flatnonzero((of_row[:row] == of_row[row]) & (follows[:row] < _TURNS))
        differ = tokens[sources] != tokens[row]
        equal = np.where(differ.any(axis=1), differ.argmax(axis=1), lengths[row])
        worth = equal - _WORTH * follows[sources]
        best = int(worth.argmax()) if worth.size else -1
        if best < 0 or worth[best] <= 0:
            share = Share(row, 0, 0)
        else:
            share = Share(int(sources[best]), int(equal[best]), int(follows[sources[best]]))
        shares.append(share)
        follows[row] = share.turn + 1
    return shares


def plan_passes(lengths: Sequence[int], *, exactly: bool) -> Iterator[list[int]]:
    """Yield which rows each pass reads, longest first; rows of no tokens are in none.

    Args:
        lengths: tokens that each row has to read.
        exactly: whether the rows of a pass must be of one length.
    """
    order = sorted((row for row in range(len(lengths)) if lengths[row]), key=lambda row: -lengths[row])
    begin = 0
    for end in range(1, len(order) + 1):
        longest, rows = lengths[order[begin]], end - begin
        if end < len(order):
            following = lengths[order[end]]
            is_over = following < longest if exactly else following < _FULL * longest and rows * longest >= _MIN_PASS
            if not is_over and (rows + 1) * longest <= PASS_TOKENS:
                continue
        yield order[begin:end]
        begin = end
