"""Loads the frozen base under the adapters, the same way for trainer and engine: both compute the same function."""

from __future__ import annotations

from pathlib import Path
from typing import Final
from weakref import WeakValueDictionary

import torch
from safetensors import SafetensorError, safe_open
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel

from neuromas.errors import BaseModelError

DTYPES: Final = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_held: WeakValueDictionary[tuple[Path, torch.dtype, str], nn.Parameter] = WeakValueDictionary()
"""The weights of this process's bases, for as long as somebody holds them."""


def load_base(folder: Path, dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    """Return the frozen base of a local folder, the same function in training as in sampling, on the CPU.

    A base is held once: weights that are stored in this number format are memory maps of their files, shared with all
    processes of the machine, and others are shared with the copies that this process has loaded before.

    Raises:
        BaseModelError: the folder does not hold a model.
    """
    if not (folder / "config.json").is_file():
        raise BaseModelError(f"base: {folder} holds no config.json; give the folder of a transformers model (run.base)")
    config = AutoConfig.from_pretrained(folder, local_files_only=True)
    _take_noise_out(config)
    # transformers' sdpa leaves a cap on the attention's logits out, without a word.
    capped = getattr(config.get_text_config(), "attn_logit_softcapping", None) is not None
    model = AutoModelForCausalLM.from_pretrained(
        folder, config=config, dtype=dtype, local_files_only=True, attn_implementation="eager" if capped else None
    )
    _share_weights(model.requires_grad_(False), folder)
    return model


def _share_weights(model: PreTrainedModel, folder: Path) -> None:
    """Put memory that is held already in place of weights that are the same numbers."""
    weights = dict(model.named_parameters())
    for path in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(path, framework="pt") as file:
                for name in weights.keys() & set(file.keys()):
                    _take_memory(weights[name], file.get_tensor(name))
        except SafetensorError:
            continue  # not one of the model's files, which transformers has read
    for name, weight in weights.items():
        _take_memory(weight, _held.setdefault((folder.resolve(), weight.dtype, name), weight))


def _take_memory(weight: nn.Parameter, other: torch.Tensor) -> None:
    if (other.dtype, other.device) == (weight.dtype, weight.device) and torch.equal(other, weight):
        weight.data = other.data


def _take_noise_out(config: PreTrainedConfig) -> None:
    """Set dropout and jitter to 0: a base that is noisy in training is not the policy that was sampled from."""
    for key, value in vars(config).items():
        if isinstance(value, PreTrainedConfig):
            _take_noise_out(value)
        elif isinstance(value, float) and any(part in key for part in ("drop", "jitter")):
            setattr(config, key, 0.0)
