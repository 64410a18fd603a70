"""Which bases can be trained, and whether their call rows can be packed, by what config.json says. Loads no torch.

A packed row is a tree: every place sees its ancestors, at the depth where it would be in a row of its own. Attention
follows that by its mask, whatever the layer's window or chunk. What looks at places instead, or carries a state from
one place to the next, cannot.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from neuromas.errors import BaseModelError

ATTENTION: Final = frozenset({"full_attention", "sliding_attention", "chunked_attention", "attention", "mlp", "moe"})
"""Kinds of layers, by config.layer_types, that a tree's mask reaches or that look at one place only."""
RECURRENT: Final = frozenset(
    {"bamba", "falcon_h1", "falcon_mamba", "jamba", "kimi_linear", "mamba", "mamba2", "minimax", "nemotron_h"}
    | {"olmo_hybrid", "qwen3_next", "recurrent_gemma", "rwkv", "xlstm", "zamba", "zamba2", "zaya"}
)
"""Models whose config.json may leave config.layer_types to be derived."""
BY_PLACE: Final = frozenset({"bloom", "gpt_neo", "mpt"})
"""Models that count places inside their attention: ALiBi, or a local window of their own."""


def check_attention(folder: Path, *, packed: bool) -> None:
    """Refuse a base whose layers training cannot follow.

    Args:
        folder: of the base.
        packed: whether call rows are packed (training.forward).

    Raises:
        BaseModelError: layers carry a state along the row; or ``packed``, and they count places.
    """
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    text = config.get("text_config", config)
    kind = str(text.get("model_type", config.get("model_type")))
    others = sorted(set(text.get("layer_types") or ()) - ATTENTION)
    if kind in RECURRENT or others:
        what = f"layers of kind {', '.join(others)}" if others else f"layers that carry a state ({kind})"
        raise BaseModelError(
            f"base {folder.name} has {what}; packed rows cannot branch their state and the transformers engine cannot "
            "end single rows of a batch of them: take a base whose layers all attend"
        )
    if packed and counts_places(text):
        raise BaseModelError(
            f"base {folder.name} counts places in its attention ({kind}), which a packed row does not keep; set "
            "training.forward = 'padded'"
        )


def counts_places(config: Mapping[str, Any]) -> bool:
    """Return whether a model counts places inside its attention, by its config.json (of its text)."""
    return config.get("model_type") in BY_PLACE or bool(config.get("alibi"))
