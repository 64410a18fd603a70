"""Loads the frozen base under the adapters, the same way for trainer and engine: both compute the same function."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel

from neuromas.errors import BaseModelError

DTYPES: Final = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def load_base(folder: Path, dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    """Return the frozen base of a local folder, the same function in training as in sampling.

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
    return model.requires_grad_(False)


def _take_noise_out(config: PreTrainedConfig) -> None:
    """Set dropout and jitter to 0: a base that is noisy in training is not the policy that was sampled from."""
    for key, value in vars(config).items():
        if isinstance(value, PreTrainedConfig):
            _take_noise_out(value)
        elif isinstance(value, float) and any(part in key for part in ("drop", "jitter")):
            setattr(config, key, 0.0)
