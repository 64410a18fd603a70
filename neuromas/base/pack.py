"""Rows of symbols as tensors: one question and its branches in one sequence, with a mask that keeps branches apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from neuromas.base.curriculum import PracticeRow
from neuromas.base.symbols import PAD

_PADDING = -1


@dataclass(frozen=True, slots=True)
class PackedRows:
    """A batch of rows, padded at the end. Axes: rows, seq (packed symbols).

    Attributes:
        input_ids: (rows, seq) token ids.
        position_ids: (rows, seq) place of each token in its own branch's text, the question counted once.
        mask: (rows, 1, seq, seq) additive attention mask in float32: 0 where a token may look, the lowest float else.
        targets: (rows, seq) the token that follows within its branch.
        weights: (rows, seq) weight of each target in the loss; 0 where nothing is learnt.
        num_branches: branches in the batch, by which the loss is normalised.
    """

    input_ids: Tensor
    position_ids: Tensor
    mask: Tensor
    targets: Tensor
    weights: Tensor
    num_branches: int


def pack_rows(rows: Sequence[PracticeRow], ids: Mapping[str, int]) -> PackedRows:
    """Return the rows as one batch; ``ids`` maps symbols to token ids."""
    flat = [_flatten(row, ids) for row in rows]
    return PackedRows(
        input_ids=_pad([row.tokens for row in flat], ids[PAD]).long(),
        position_ids=_pad([row.positions for row in flat], 0).long(),
        mask=branch_mask(_pad([row.segments for row in flat], _PADDING)),
        targets=_pad([row.targets for row in flat], ids[PAD]).long(),
        weights=_pad([row.weights for row in flat], 0.0),
        num_branches=sum(len(row.branches) for row in rows),
    )


def branch_mask(segments: Tensor) -> Tensor:
    """Return the additive mask under which a token sees the question and the earlier tokens of its own branch.

    Args:
        segments: (rows, seq) 0 for the question, 1, 2, ... for the branches, -1 for padding.
    """
    length = segments.shape[1]
    asks, seen = segments[:, :, None], segments[:, None, :]
    # Padding sees itself as one more branch: a row of the mask without any allowed key would give NaN.
    allowed = ((seen == 0) | (seen == asks)) & torch.ones(length, length).tril().bool()
    return torch.zeros(allowed.shape).masked_fill_(~allowed, torch.finfo(torch.float32).min)[:, None]


@dataclass(frozen=True, slots=True)
class _FlatRow:
    tokens: list[int]
    positions: list[int]
    segments: list[int]
    targets: list[int]
    weights: list[float]


def _flatten(row: PracticeRow, ids: Mapping[str, int]) -> _FlatRow:
    start = len(row.question)
    words, positions, segments = list(row.question), list(range(start)), [0] * start
    targets, weights = [PAD] * start, [0.0] * start
    for segment, branch in enumerate(row.branches, start=1):
        text = (*branch.prompt, *branch.completion[:-1])
        silent = len(branch.prompt) - 1
        words += text
        positions += range(start, start + len(text))
        segments += [segment] * len(text)
        targets += [*[PAD] * silent, *branch.completion]
        weights += [*[0.0] * silent, *branch.weights]
    return _FlatRow([ids[word] for word in words], positions, segments, [ids[word] for word in targets], weights)


def _pad(lists: Sequence[list[int]] | Sequence[list[float]], fill: float) -> Tensor:
    length = max(map(len, lists))
    return torch.tensor([[*values, *[fill] * (length - len(values))] for values in lists])
