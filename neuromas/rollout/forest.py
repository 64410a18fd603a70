"""Token tries: rows of tokens that begin alike, with every shared beginning once.

A trie is laid out in depth-first order, so a place may attend exactly to the earlier places whose subtree it lies in:
its ancestors. Pure numpy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Forest:
    """The tries of all groups, one after the other; a node is one token at one place.

    Attributes:
        tokens: token of each node, shape (nodes,).
        depths: position of each node in the rows that pass through it, shape (nodes,).
        ends: first node after the node's subtree, shape (nodes,).
        starts: first node of each group, shape (groups + 1,).
        paths: node of each input position of each row, -1 past its end, shape (rows, longest).
    """

    tokens: Ints
    depths: Ints
    ends: Ints
    starts: Ints
    paths: Ints


def build_forest(sequences: Sequence[tuple[int, ...]], trees: Ints) -> Forest:
    """Return the tries of the sequences' inputs (all tokens but the last), one trie per value of ``trees``.

    Rows are sorted by tree and tokens, so that a row shares with the rows before it exactly what it shares with its
    neighbour, and numbering new nodes row by row numbers each trie depth first.
    """
    order = sorted(range(len(sequences)), key=lambda row: (trees[row], sequences[row]))
    tokens, valid = _matrix([sequences[row][:-1] for row in order])
    rows, longest = tokens.shape
    places = np.arange(longest)
    shared = np.zeros(rows, dtype=np.int64)
    if rows > 1:
        equal = (tokens[1:] == tokens[:-1]) & valid[1:] & valid[:-1]
        shared[1:] = np.where(equal.all(axis=1), longest, equal.argmin(axis=1))
        shared[1:][np.diff(trees[order]) != 0] = 0
    apart = places >= shared[:, None]
    new = valid & apart
    numbers = np.cumsum(new.ravel()).reshape(rows, longest) - 1
    owner = np.maximum.accumulate(np.where(new, np.arange(rows)[:, None], 0), axis=0)
    paths = np.empty((rows, longest), dtype=np.int64)
    paths[order] = np.where(valid, np.take_along_axis(numbers, owner, axis=0), -1)
    first = np.concatenate([[0], np.cumsum(new.sum(axis=1))])
    parting = np.where(apart, np.arange(rows)[:, None], rows)
    after = np.full((rows, longest), rows)
    after[:-1] = np.minimum.accumulate(parting[::-1], axis=0)[::-1][1:]
    opening = np.flatnonzero(np.diff(trees[order], prepend=-1))
    return Forest(
        tokens=tokens[new],
        depths=np.broadcast_to(places, new.shape)[new],
        ends=first[after][new],
        starts=np.concatenate([first[opening], first[-1:]]),
        paths=paths,
    )


def _matrix(sequences: Sequence[tuple[int, ...]]) -> tuple[Ints, NDArray[np.bool_]]:
    lengths = np.fromiter(map(len, sequences), dtype=np.int64, count=len(sequences))
    valid = np.arange(lengths.max()) < lengths[:, None]
    tokens = np.full(valid.shape, -1, dtype=np.int64)
    tokens[valid] = np.fromiter(chain.from_iterable(sequences), dtype=np.int64, count=int(lengths.sum()))
    return tokens, valid
