"""Prefix-tree packing: call rows that share a prompt become one row that holds every shared prefix once.

The rows of a group (one example, one adapter, one temperature) form a forest of token tries. A trie is laid out in
depth-first order, so a position may attend exactly to the earlier positions whose subtree it lies in: its ancestors.
Every completion token is a target of the position that precedes it, and several targets may share a position. Pure
numpy; the result says what to feed the model and where to read each target's logprob.

A row that shares with no other is a trie without branches. A bucket of such rows needs no mask beside the causal one,
which is what forward = "padded" is: the same plan with one group per row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from neuromas.errors import TrainingError

Ints = NDArray[np.int64]

FORWARD_OVERHEAD_TOKENS = 400
"""Cost of one more forward and backward pass, in tokens; measured on CPU, where it is largest relative to a token."""
MAX_BUCKETS = 8


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


@dataclass(frozen=True, slots=True, eq=False)
class Bucket:
    """Packed rows of similar length: one forward pass.

    Attributes:
        groups: group of each packed row, shape (rows,).
        input_ids: tokens, 0 past a row's end, shape (rows, length).
        position_ids: position of each token in its own call row, shape (rows, length).
        ends: exclusive end of each token's subtree in its packed row, shape (rows, length); None where no row
            branches, so that plain causal attention is the same.
        sources: position that predicts each target, as row * length + place, shape (targets,).
        labels: token of each target, shape (targets,).
        call_rows: call row of each target, shape (targets,).
        steps: index of each target in its row's completion, shape (targets,).
    """

    groups: Ints
    input_ids: Ints
    position_ids: Ints
    ends: Ints | None
    sources: Ints
    labels: Ints
    call_rows: Ints
    steps: Ints

    @property
    def num_tokens(self) -> int:
        """Tokens the forward pass computes, padding included."""
        return int(self.input_ids.size)

    @property
    def members(self) -> Ints:
        """Call rows of the bucket, sorted."""
        return np.unique(self.call_rows)


def idle_bucket() -> Bucket:
    """Return a forward pass over one token that is no call's: for a process that must take part and has nothing."""
    one, none = np.zeros((1, 1), dtype=np.int64), np.zeros(0, dtype=np.int64)
    return Bucket(one[0], one, one, None, sources=one[0], labels=one[0], call_rows=none, steps=none)


def pack(
    prompts: Sequence[Sequence[int]],
    completions: Sequence[Sequence[int]],
    groups: Ints,
    *,
    share: bool = True,
    tokens_per_forward: int = 1 << 30,
    attention_scale: int = 1 << 30,
) -> list[Bucket]:
    """Return the forward passes that score every completion token of every row once.

    Args:
        prompts: prompt tokens of each call row, at least one.
        completions: completion tokens of each call row, at least one.
        groups: group of each row, numbered from 0, shape (rows,). Only rows of one group share prefixes.
        share: False gives each row a trie of its own.
        tokens_per_forward: most tokens in one bucket, padding included. A trie that would hold more is cut into
            several; a single row that is longer is a bucket of its own.
        attention_scale: tokens of context at which attention costs as much as the rest of the model; a group whose
            packed row would cost more than its rows on their own is not packed.

    Raises:
        TrainingError: a prompt or a completion is empty.
    """
    if not len(prompts) == len(completions) == len(groups):
        raise TrainingError(
            f"packing: got {len(prompts)} prompts, {len(completions)} completions and {len(groups)} groups"
        )
    if not all(prompts) or not all(completions):
        raise TrainingError("packing: a prompt or a completion is empty; leave such rows out of the update")
    if not len(prompts):
        return []
    sequences = [(*prompt, *completion) for prompt, completion in zip(prompts, completions, strict=True)]
    trees = np.arange(len(sequences)) if not share else np.asarray(groups, dtype=np.int64)
    trees = np.unique(trees, return_inverse=True)[1]
    lengths = np.array([len(sequence) - 1 for sequence in sequences])
    forest = build_forest(sequences, trees)
    if share and (costly := _costly_trees(forest, trees, lengths, attention_scale)).any():
        alone = trees.max() + 1 + np.arange(len(trees))
        trees = np.unique(np.where(costly[trees], alone, trees), return_inverse=True)[1]
        forest = build_forest(sequences, trees)
    if (np.diff(forest.starts) > tokens_per_forward).any():
        trees = _cut_trees(forest, sequences, trees, tokens_per_forward)
        forest = build_forest(sequences, trees)
    return _Layout(forest, sequences, trees, np.asarray(groups), [len(prompt) for prompt in prompts]).buckets(
        tokens_per_forward
    )


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


def split_lengths(lengths: Ints, overhead: int = FORWARD_OVERHEAD_TOKENS, most: int = MAX_BUCKETS) -> list[Ints]:
    """Return the rows' indices in buckets that minimise padded tokens plus ``overhead`` per bucket.

    An exact dynamic program over the distinct lengths (thinned to 64 when there are more).
    """
    order = np.argsort(-lengths, kind="stable")
    descending = lengths[order]
    edges = np.concatenate([[0], np.flatnonzero(np.diff(descending)) + 1])
    if len(edges) > 64:
        edges = edges[np.unique(np.linspace(0, len(edges) - 1, 64).astype(int))]
    bounds = np.append(edges, len(order))
    starts, sizes = np.arange(len(edges))[:, None], bounds[None, 1:] - bounds[:-1, None]
    waste = np.where(sizes > 0, sizes * descending[edges][:, None] + float(overhead), np.inf)
    reached = np.where(starts == 0, 0.0, np.inf)
    cuts: list[list[int]] = []
    depth, cheapest = 0, np.inf
    for number in range(1, min(most, len(edges)) + 1):
        cost = reached + waste
        cuts.append(cost.argmin(axis=0).tolist())
        total = cost.min(axis=0)
        if total[-1] < cheapest:
            depth, cheapest = number, float(total[-1])
        reached = np.concatenate([[np.inf], total[:-1]])[:, None]
    return _follow(cuts[:depth], bounds, order)


def _follow(cuts: list[list[int]], bounds: Ints, order: Ints) -> list[Ints]:
    """Return the buckets of the cheapest way, read back from its end."""
    buckets, end = [], len(bounds) - 1
    for came in reversed(cuts):
        start = came[end - 1]
        buckets.append(order[bounds[start] : bounds[end]])
        end = start
    return buckets[::-1]


def _matrix(sequences: Sequence[tuple[int, ...]]) -> tuple[Ints, NDArray[np.bool_]]:
    lengths = np.fromiter(map(len, sequences), dtype=np.int64, count=len(sequences))
    valid = np.arange(lengths.max()) < lengths[:, None]
    tokens = np.full(valid.shape, -1, dtype=np.int64)
    tokens[valid] = np.fromiter(chain.from_iterable(sequences), dtype=np.int64, count=int(lengths.sum()))
    return tokens, valid


def _costly_trees(forest: Forest, trees: Ints, lengths: Ints, attention_scale: int) -> NDArray[np.bool_]:
    packed = np.diff(forest.starts).astype(np.float64)
    alone = np.bincount(trees, lengths + lengths.astype(np.float64) ** 2 / attention_scale)
    return np.asarray(packed + packed**2 / attention_scale > alone)


def _cut_trees(forest: Forest, sequences: Sequence[tuple[int, ...]], trees: Ints, most: int) -> Ints:
    """Return the tree of each row where those of more than ``most`` nodes are cut; neighbours stay together."""
    cut = trees.copy()
    number, sizes = len(forest.starts) - 1, np.diff(forest.starts)
    for tree in np.flatnonzero(sizes > most).tolist():
        rows = sorted(np.flatnonzero(trees == tree).tolist(), key=lambda row: sequences[row])
        held, before = 0, sequences[rows[0]]
        for row in rows:
            length = len(sequences[row]) - 1
            apart = (
                place for place, pair in enumerate(zip(before, sequences[row], strict=False)) if len(set(pair)) > 1
            )
            new = length - min(next(apart, length), len(before) - 1, length) if held else length
            if held and held + new > most:
                held, new, number = 0, length, number + 1
            held, before = held + new, sequences[row]
            cut[row] = number
        number += 1
    return np.asarray(np.unique(cut, return_inverse=True)[1])


@dataclass(frozen=True, slots=True, eq=False)
class _Layout:
    """A forest with what is needed to cut it into buckets."""

    forest: Forest
    sequences: Sequence[tuple[int, ...]]
    trees: Ints
    groups: Ints
    prompt_lengths: Sequence[int]

    def buckets(self, tokens_per_forward: int) -> list[Bucket]:
        sizes = np.diff(self.forest.starts)
        parts: list[Ints] = []
        for bucket in split_lengths(sizes):
            # Longest first, so that the rows of a part are padded to its first.
            parts += _bounded(bucket, sizes, tokens_per_forward)
        targets = self._targets()
        return [self._bucket(part, targets) for part in parts]

    def _targets(self) -> tuple[Ints, Ints, Ints, Ints]:
        """Return node, label, call row and completion index of every target."""
        counts = np.array(
            [len(row) - prompt for row, prompt in zip(self.sequences, self.prompt_lengths, strict=True)], dtype=np.int64
        )
        rows = np.repeat(np.arange(len(counts)), counts)
        steps = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        places = np.asarray(self.prompt_lengths)[rows] - 1 + steps
        completions = (row[prompt:] for row, prompt in zip(self.sequences, self.prompt_lengths, strict=True))
        labels = np.fromiter(chain.from_iterable(completions), dtype=np.int64, count=int(counts.sum()))
        return self.forest.paths[rows, places], labels, rows, steps

    def _bucket(self, trees: Ints, targets: tuple[Ints, Ints, Ints, Ints]) -> Bucket:
        forest = self.forest
        begins, sizes = forest.starts[trees], np.diff(forest.starts)[trees]
        length = int(sizes.max())
        places = np.arange(length)
        real = places < sizes[:, None]
        nodes = np.where(real, begins[:, None] + places, 0)
        ends = np.where(real, forest.ends[nodes] - begins[:, None], places + 1)
        branches = bool((np.where(real, ends, sizes[:, None]) != sizes[:, None]).any())
        row_of_tree = np.full(len(forest.starts) - 1, -1, dtype=np.int64)
        row_of_tree[trees] = np.arange(len(trees))
        node, labels, call_rows, steps = targets
        packed_row = row_of_tree[self.trees[call_rows]]
        mine = packed_row >= 0
        packed_row, node = packed_row[mine], node[mine]
        group_of_tree = np.zeros(len(forest.starts) - 1, dtype=np.int64)
        group_of_tree[self.trees] = self.groups
        return Bucket(
            groups=group_of_tree[trees],
            input_ids=np.where(real, forest.tokens[nodes], 0),
            position_ids=np.where(real, forest.depths[nodes], 0),
            ends=ends if branches else None,
            sources=packed_row * length + node - begins[packed_row],
            labels=labels[mine],
            call_rows=call_rows[mine],
            steps=steps[mine],
        )


def _bounded(bucket: Ints, sizes: Ints, tokens_per_forward: int) -> list[Ints]:
    """Return the trees of a bucket, longest first, in parts of at most so many padded tokens or one tree each."""
    parts, begin = [], 0
    while begin < len(bucket):
        most = max(1, tokens_per_forward // int(sizes[bucket[begin]]))
        parts.append(bucket[begin : begin + most])
        begin += most
    return parts
