"""Sizes of a base, from its files alone. Loads no torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from neuromas.adapters.families.contract import ModuleShape
from neuromas.base.linears import linear_shapes
from neuromas.errors import BaseModelError

_FLOAT_BYTES: Final = 4
TRAINING_COPIES: Final = 4
"""A trained number, its gradient, and Adam's two moments."""


@dataclass(frozen=True, slots=True)
class BaseSizes:
    """Sizes of a base.

    Attributes:
        adapted: its adapted layers.
        file_bytes: of its weights as they are stored.
        kv_per_token: bytes of one token's keys and values in float32; None where its files do not say.
    """

    adapted: tuple[ModuleShape, ...]
    file_bytes: int
    kv_per_token: int | None


@lru_cache(maxsize=32)
def read_sizes(folder: Path, targets: tuple[str, ...]) -> BaseSizes | None:
    """Return the sizes of a base; None where its files do not say."""
    try:
        shapes = linear_shapes(folder, targets)
        config: dict[str, Any] = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (BaseModelError, OSError, ValueError):
        return None
    files = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    return BaseSizes(shapes, files, _kv_bytes(config.get("text_config", config)))


def _kv_bytes(config: Mapping[str, Any]) -> int | None:
    try:
        heads = config.get("num_key_value_heads") or config["num_attention_heads"]
        width = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
        return int(2 * config["num_hidden_layers"] * heads * width * _FLOAT_BYTES)
    except (KeyError, TypeError, ValueError):
        return None
