"""Loads a base and puts node adapters on it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from peft import PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, PreTrainedModel

from neuromas.adapters.bank import AdapterBank
from neuromas.adapters.tuner import NodeAdapterConfig
from neuromas.errors import BaseModelError
from neuromas.spec.parts import AdapterSpec


def load_base(folder: Path, dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    """Return the frozen base of a local folder.

    Raises:
        BaseModelError: the folder does not hold a model.
    """
    if not (folder / "config.json").is_file():
        raise BaseModelError(f"base: {folder} holds no config.json; give the folder of a transformers model (run.base)")
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, local_files_only=True)
    return model.requires_grad_(False)


def adapter_config(adapter: AdapterSpec, names: Sequence[str], seed: int) -> NodeAdapterConfig:
    """Return the PEFT config of the adapters of ``names``: what TRL's ``peft_config=`` takes."""
    return NodeAdapterConfig(
        task_type="CAUSAL_LM",
        names=list(names),
        method=adapter.type,
        r=adapter.rank,
        alpha=adapter.alpha,
        dimension=adapter.dimension,
        seed=seed,
        target_modules=list(adapter.targets),
    )


def build_model(
    base_folder: Path,
    adapter: AdapterSpec,
    names: Sequence[str],
    seed: int,
    dtype: torch.dtype = torch.float32,
) -> tuple[PeftModel, AdapterBank]:
    """Return the base with one fresh adapter per name, and the bank that names them.

    Every adapter starts as the base. Its random part depends on (seed, its name, module) alone, so the same name
    starts the same in a larger graph. Adapters are float32 whatever the base's ``dtype``.

    Raises:
        BaseModelError: the folder holds no model.
        AdapterError: names or targets are refused.
    """
    return attach(load_base(base_folder, dtype), adapter, names, seed)


def attach(
    base: PreTrainedModel, adapter: AdapterSpec, names: Sequence[str], seed: int
) -> tuple[PeftModel, AdapterBank]:
    """Return ``base``, frozen, with one fresh adapter per name, and the bank that names them; see ``build_model``."""
    model = get_peft_model(base, adapter_config(adapter, names, seed))
    # Uni-LoRA's projection is the same on every process; DistributedDataParallel would send it before every forward.
    model._ddp_params_and_buffers_to_ignore = [name for name, _ in model.named_buffers() if "neuromas_" in name]
    return model, AdapterBank(model)
