"""How queued prompts are read: what they begin with in common once, in passes of similar length. Pure numpy."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from neuromas.rollout.forest import Forest, Ints, build_forest

PASS_TOKENS: Final = 4096
"""Tokens of one pass, padding included; a longer prompt is a pass of its own."""
_MIN_PASS: Final = 512
"""Tokens below which a pass is filled up with shorter rows rather than ended: a pass has costs of its own."""
_FULL: Final = 0.8
"""Length of the shortest row of a pass over that of its longest, once the pass has ``_MIN_PASS`` tokens."""


@dataclass(frozen=True, slots=True, eq=False)
class PrefillPass:
    """One forward pass over packed rows, each a trie of prompts that one adapter reads.

    Attributes:
        slots: adapter slot of each packed row, shape (rows,).
        input_ids: tokens, 0 past a row's end, shape (rows, length).
        depths: position of each token in its own prompt, shape (rows, length).
        ends: exclusive end of each token's subtree in its packed row, shape (rows, length); None where no row branches.
        calls: the prompts that the rows hold, by number, shape (calls,).
        shared: tokens of each prompt that one before it begins with, too, shape (calls,).
        places: where each token of a prompt stands, as row * length + place, shape (calls, longest); past a prompt's
            end its first token's place.
    """

    slots: Ints
    input_ids: Ints
    depths: Ints
    ends: Ints | None
    calls: Ints
    shared: Ints
    places: Ints


def plan_prefill(
    prompts: Sequence[Sequence[int]], slots: Sequence[int], *, share: bool, tree_tokens: int
) -> list[PrefillPass]:
    """Return the passes that read all tokens but the last of every prompt.

    Args:
        prompts: tokens of each call's prompt, at least one.
        slots: adapter slot of each call; only prompts of one slot share beginnings.
        share: False gives each prompt a row of its own, and each length a pass of its own.
        tree_tokens: most tokens of a row that several prompts share: the cost of attention grows with its square.
    """
    numbers = [number for number, prompt in enumerate(prompts) if len(prompt) > 1]
    if not numbers:
        return []
    sequences = [tuple(prompts[number]) for number in numbers]
    of_slot = np.array([slots[number] for number in numbers], dtype=np.int64)
    alone = np.arange(len(sequences)), np.zeros(len(sequences), dtype=np.int64)
    trees, shared = _trees(sequences, of_slot, tree_tokens) if share else alone
    forest = build_forest(sequences, trees)
    slot_of_tree = np.zeros(len(forest.starts) - 1, dtype=np.int64)
    slot_of_tree[trees] = of_slot
    calls = np.stack([np.array(numbers, dtype=np.int64), shared])
    return [
        _pass(forest, part, trees, slot_of_tree, calls) for part in _parts(np.diff(forest.starts), exactly=not share)
    ]


def _trees(sequences: Sequence[tuple[int, ...]], slots: Ints, most: int) -> tuple[Ints, Ints]:
    """Return the trie of each prompt, and how many tokens it begins with as the one before it in that trie does.

    Neighbours in the order of slots and tokens share a trie while it has room.
    """
    order = sorted(range(len(sequences)), key=lambda row: (slots[row], sequences[row]))
    trees, shares = np.zeros((2, len(sequences)), dtype=np.int64)
    tree, held, before = -1, 0, -1
    for row in order:
        length, shared = len(sequences[row]) - 1, 0
        if before >= 0 and slots[before] == slots[row]:
            shared = _shared(sequences[before][:-1], sequences[row][:-1])
        if not shared or held + length - shared > most:
            tree, held, shared = tree + 1, 0, 0
        held += length - shared
        trees[row], shares[row], before = tree, shared, row
    return trees, shares


def _shared(left: tuple[int, ...], right: tuple[int, ...]) -> int:
    """Return how many tokens two rows begin with in common."""
    if left == right:
        return len(left)
    return next(
        (place for place, (a, b) in enumerate(zip(left, right, strict=False)) if a != b), min(len(left), len(right))
    )


def _parts(sizes: Ints, *, exactly: bool) -> Iterator[Ints]:
    """Yield the rows of each pass, longest first."""
    order = np.argsort(-sizes, kind="stable")
    begin = 0
    for end in range(1, len(order) + 1):
        longest, rows = int(sizes[order[begin]]), end - begin
        if end < len(order):
            following = int(sizes[order[end]])
            is_over = following < longest if exactly else following < _FULL * longest and rows * longest >= _MIN_PASS
            if not is_over and (rows + 1) * longest <= PASS_TOKENS:
                continue
        yield order[begin:end]
        begin = end


def _pass(forest: Forest, part: Ints, trees: Ints, slot_of_tree: Ints, calls: Ints) -> PrefillPass:
    begins, sizes = forest.starts[part], np.diff(forest.starts)[part]
    length = int(sizes.max())
    places = np.arange(length)
    real = places < sizes[:, None]
    nodes = np.where(real, begins[:, None] + places, 0)
    ends = np.where(real, forest.ends[nodes] - begins[:, None], places + 1)
    row_of_tree = np.full(len(forest.starts) - 1, -1, dtype=np.int64)
    row_of_tree[part] = np.arange(len(part))
    members = np.flatnonzero(row_of_tree[trees] >= 0)
    rows = row_of_tree[trees[members]][:, None]
    paths = forest.paths[members]
    paths = paths[:, : int((paths >= 0).sum(axis=1).max())]
    paths = np.where(paths >= 0, paths, paths[:, :1])
    return PrefillPass(
        slots=slot_of_tree[part],
        input_ids=np.where(real, forest.tokens[nodes], 0),
        depths=np.where(real, forest.depths[nodes], 0),
        ends=ends if bool((np.where(real, ends, sizes[:, None]) != sizes[:, None]).any()) else None,
        calls=calls[0, members],
        shared=calls[1, members],
        places=rows * length + paths - begins[rows],
    )
