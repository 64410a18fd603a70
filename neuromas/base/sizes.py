"""Sizes of a base, from its files alone. Loads no torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from neuromas.adapters.families.contract import ModuleShape
from neuromas.base.linears import count_features, count_layer_weights, count_parameters, linear_shapes
from neuromas.errors import BaseModelError

_FLOAT_BYTES: Final = 4
TRAINING_COPIES: Final = 4
"""A trained number, its gradient, and Adam's two moments."""
_SMALL: Final = 10_000_000
"""Numbers of a base below which its products take less than what stands around them."""


@dataclass(frozen=True, slots=True)
class Dimensions:
    """What decides how much memory a forward pass takes.

    Attributes:
        parameters: numbers in its weights.
        layer_weights: those of them that every token is multiplied with: in the products inside its layers.
        features: numbers that go into and come out of its layers' products, for one token.
        hidden: width of the state between two layers.
        layers: how many.
        vocabulary: tokens it knows.
    """

    parameters: int
    layer_weights: int
    features: int
    hidden: int
    layers: int
    vocabulary: int


@dataclass(frozen=True, slots=True)
class BaseSizes:
    """Sizes of a base.

    Attributes:
        adapted: its adapted layers.
        file_bytes: of its weights as they are stored.
        kv_per_token: bytes of one token's keys and values in float32; None where its files do not say.
        dimensions: of the model; None where its files do not say.
    """

    adapted: tuple[ModuleShape, ...]
    file_bytes: int
    kv_per_token: int | None
    dimensions: Dimensions | None


def is_small(folder: Path) -> bool:
    """Whether a base's products are over before a second thread has begun.

    Raises:
        BaseModelError: there are no safetensors files.
    """
    return count_parameters(folder) < _SMALL


@lru_cache(maxsize=32)
def read_sizes(folder: Path, targets: tuple[str, ...]) -> BaseSizes | None:
    """Return the sizes of a base; None where its files do not say."""
    try:
        shapes = linear_shapes(folder, targets)
        config: dict[str, Any] = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (BaseModelError, OSError, ValueError):
        return None
    files = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    text = config.get("text_config", config)
    return BaseSizes(shapes, files, _kv_bytes(text), _dimensions(folder, text))


def _dimensions(folder: Path, config: Mapping[str, Any]) -> Dimensions | None:
    names = (("hidden_size", "n_embd", "d_model"), ("num_hidden_layers", "n_layer", "n_layers"), ("vocab_size",))
    found = [next((config[name] for name in keys if isinstance(config.get(name), int)), 0) for keys in names]
    if not all(found):
        return None
    return Dimensions(count_parameters(folder), count_layer_weights(folder), count_features(folder), *found)


def _kv_bytes(config: Mapping[str, Any]) -> int | None:
    try:
        heads = config.get("num_key_value_heads") or config["num_attention_heads"]
        width = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
        return int(2 * config["num_hidden_layers"] * heads * width * _FLOAT_BYTES)
    except (KeyError, TypeError, ValueError):
        return None
