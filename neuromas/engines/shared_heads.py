"""Attention whose query heads share keys and values, without a copy of these for each of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from torch import Tensor, nn
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

_SDPA: Final = "sdpa"


@contextmanager
def shared_heads() -> Iterator[None]:
    """Have models that take PyTorch's attention fold the heads of a group into its queries, in the block's passes.

    transformers repeats keys and values wherever a mask is given: of a decoded token's time that is as much as the
    attention itself.
    """
    ALL_ATTENTION_FUNCTIONS[_SDPA] = _attend
    try:
        yield
    finally:
        ALL_ATTENTION_FUNCTIONS[_SDPA] = sdpa_attention_forward


def _attend(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **settings: Any
) -> tuple[Tensor, None]:
    """Attend as transformers does.

    Args:
        module: the layer.
        query: shape (rows, heads, tokens, features).
        key: shape (rows, groups, attended, features); heads of a group are neighbours.
        value: as ``key``, of its own number of features.
        attention_mask: additive, shape (rows or 1, 1, tokens, attended).
        settings: what else transformers hands over.

    Returns:
        Shape (rows, tokens, heads, features), and no weights.
    """
    rows, heads, tokens, size = query.shape
    groups = key.shape[1]
    is_plain = not settings.get("dropout") and settings.get("position_bias") is None
    if attention_mask is None or heads == groups or not is_plain:
        found: tuple[Tensor, None] = sdpa_attention_forward(module, query, key, value, attention_mask, **settings)
        return found
    shared = heads // groups
    mask = attention_mask[:, :, None].expand(-1, -1, shared, -1, -1).flatten(2, 3)
    folded = query.reshape(rows, groups, shared * tokens, size)
    output = nn.functional.scaled_dot_product_attention(folded, key, value, mask, scale=settings.get("scaling"))
    return output.reshape(rows, heads, tokens, -1).transpose(1, 2).contiguous(), None
