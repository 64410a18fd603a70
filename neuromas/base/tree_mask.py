"""The attention of rows whose tokens do not stand at their positions: each layer's own rule, asked about depths.

A rule is what transformers builds a layer's mask from: causal, a sliding window, chunks. It compares positions. In a
packed row, which is a tree, a token's position is its depth; in a batch of calls of unequal length each call has its
own. While such rows run, the rules of all layer types are therefore asked about depths instead of places, and what they
allow in a tree is cut to the ancestors.
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
    """Packed rows; see ``training.packing``.

    Attributes:
        depths: position of each token in its own call row, shape (rows, length).
        ends: exclusive end of each token's subtree in its packed row, shape (rows, length).
    """

    depths: Tensor
    ends: Tensor


@contextmanager
def tree_attention(config: PreTrainedConfig, tree: Tree) -> Iterator[None]:
    """Have the model of ``config`` attend inside ``tree`` in the block's forward pass; see ``depth_attention``."""
    places = torch.arange(tree.ends.shape[1], device=tree.ends.device)
    ancestors = (places[None, :] <= places[:, None]) & (places[:, None] < tree.ends[:, None, :])
    with depth_attention(config, tree.depths, tree.depths, ancestors):
        yield


@contextmanager
def depth_attention(
    config: PreTrainedConfig, queries: Tensor, keys: Tensor, within: Tensor | None = None
) -> Iterator[None]:
    """Have the model of ``config`` compare depths instead of places in the block's forward pass.

    The model must be given the queries' depths as ``position_ids`` and a mask of ones, without which transformers would
    take every branch for a sequence of its own.

    Args:
        config: of the model.
        queries: depth of each token that is read, shape (rows, tokens).
        keys: depth of each token that may be attended to, shape (rows, attended) or (1, attended).
        within: what may be seen at most, shape (rows, tokens, attended); None sets no bound.

    Raises:
        BaseModelError: in the forward pass, where the model adds a rule of its own.
    """
    implementation = config.get_text_config()._attn_implementation
    stock = ALL_MASK_ATTENTION_FUNCTIONS[implementation]
    ALL_MASK_ATTENTION_FUNCTIONS[implementation] = _mask_function(queries, keys, within)
    try:
        yield
    finally:
        ALL_MASK_ATTENTION_FUNCTIONS[implementation] = stock


def _mask_function(queries: Tensor, keys: Tensor, within: Tensor | None) -> Callable[..., Tensor]:
    """Return what transformers calls for each layer type's mask: additive, shape (rows, 1, tokens, attended)."""
    device = queries.device
    asked, attended = queries[:, None, :, None], keys[:, None, None, :]
    row, head = torch.arange(len(queries), device=device)[:, None, None, None], torch.zeros(1, 1, 1, 1, device=device)

    def mask(*, mask_function: Callable[..., Tensor], dtype: torch.dtype, use_vmap: bool = False, **_: Any) -> Tensor:
        if use_vmap:
            raise BaseModelError(
                "base: its model adds a rule of its own to the attention mask, which a packed row cannot follow; set "
                "training.forward = 'padded'"
            )
        seen = mask_function(row, head, asked, attended)
        if within is not None:
            seen = seen & within[:, None]
        blocked = torch.full((), torch.finfo(dtype).min, dtype=dtype, device=device)
        return torch.where(seen, torch.zeros((), dtype=dtype, device=device), blocked)

    return mask
