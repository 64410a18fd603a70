"""The attention of a packed row: each place sees those of its ancestors that the layer's own rule lets it see.

A rule is what transformers builds a layer's mask from: causal, a sliding window, chunks. It compares positions, and in
a tree a token's position is its depth. While a packed row runs, the rules of all layer types are therefore asked about
depths instead of places, and what they allow is cut to the ancestors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedConfig
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS

from neuromas.errors import BaseModelError


@dataclass(frozen=True, slots=True, eq=False)
class Tree:
    """The packed rows of a bucket; see ``packing.Bucket``.

    Attributes:
        depths: position of each token in its own call row, shape (rows, length).
        ends: exclusive end of each token's subtree in its packed row, shape (rows, length).
    """

    depths: Tensor
    ends: Tensor


@contextmanager
def tree_attention(config: PreTrainedConfig, tree: Tree) -> Iterator[None]:
    """Have the model of ``config`` attend inside ``tree`` in the block's forward pass.

    The model must be given the depths as ``position_ids`` and a mask of ones, without which transformers would take
    every branch for a sequence of its own.
    """
    implementation = config.get_text_config()._attn_implementation
    stock = ALL_MASK_ATTENTION_FUNCTIONS[implementation]
    ALL_MASK_ATTENTION_FUNCTIONS[implementation] = _mask_function(tree)
    try:
        yield
    finally:
        ALL_MASK_ATTENTION_FUNCTIONS[implementation] = stock


def _mask_function(tree: Tree) -> Callable[..., Tensor]:
    """Return what transformers calls for each layer type's mask: additive, shape (rows, 1, length, length)."""
    rows, length = tree.ends.shape
    device = tree.ends.device
    places = torch.arange(length, device=device)
    ancestors = (places[None, :] <= places[:, None]) & (places[:, None] < tree.ends[:, None, None, :])
    queries, keys = tree.depths[:, None, :, None], tree.depths[:, None, None, :]
    row, head = torch.arange(rows, device=device)[:, None, None, None], places[:1].view(1, 1, 1, 1)

    def mask(*, mask_function: Callable[..., Tensor], dtype: torch.dtype, use_vmap: bool = False, **_: Any) -> Tensor:
        if use_vmap:
            raise BaseModelError(
                "base: its model adds a rule of its own to the attention mask, which a packed row cannot follow; set "
                "training.forward = 'padded'"
            )
        seen = mask_function(row, head, queries, keys) & ancestors
        blocked = torch.full((), torch.finfo(dtype).min, dtype=dtype, device=device)
        return torch.where(seen, torch.zeros((), dtype=dtype, device=device), blocked)

    return mask
