"""Puts node adapters on a base."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import torch
from peft import PeftModel, get_peft_model
from transformers import PreTrainedModel

from neuromas.adapters.bank import AdapterBank
from neuromas.adapters.families.contract import AdapterSpec
from neuromas.adapters.frozen_base import load_base
from neuromas.adapters.kinds import AdapterKinds
from neuromas.adapters.position import AdapterPosition, as_positions
from neuromas.adapters.tuner import NodeAdapterConfig
from neuromas.topology.graph import Topology


def adapter_config(
    adapter: AdapterSpec | AdapterKinds, adapters: Sequence[str | AdapterPosition] | Topology, seed: int
) -> NodeAdapterConfig:
    """Return the PEFT config of these adapters: what TRL's ``peft_config=`` takes."""
    kinds, positions = AdapterKinds.of(adapter), as_positions(adapters)
    used = [
        section for group, section in kinds.sections.items() if any(position.group == group for position in positions)
    ]
    return NodeAdapterConfig(
        task_type="CAUSAL_LM",
        positions=[asdict(position) for position in positions],
        adapter=kinds.usual.model_dump(mode="json"),
        groups={group: section.model_dump(mode="json") for group, section in kinds.groups.items()},
        seed=seed,
        target_modules=list(dict.fromkeys(name for section in used for name in section.targets)),
    )


def build_model(
    base_folder: Path,
    adapter: AdapterSpec | AdapterKinds,
    adapters: Sequence[str | AdapterPosition] | Topology,
    seed: int,
    dtype: torch.dtype = torch.float32,
) -> tuple[PeftModel, AdapterBank]:
    """Return the base with fresh adapters, and the bank that names them.

    The random part of an adapter depends on (seed, its name, module) alone, so the same name starts the same in a
    larger graph. Adapters are float32 whatever the base's ``dtype``.

    Args:
        base_folder: of the base.
        adapter: family and sizes of all adapters; or several, by the groups that the adapters' positions name.
        adapters: those of a graph; or names, for adapters that stand in none.
        seed: of the starts and projections.
        dtype: of the base.

    Raises:
        BaseModelError: the folder holds no model.
        AdapterError: names, targets or sizes are refused.
    """
    return attach(load_base(base_folder, dtype), adapter, adapters, seed)


def attach(
    base: PreTrainedModel,
    adapter: AdapterSpec | AdapterKinds,
    adapters: Sequence[str | AdapterPosition] | Topology,
    seed: int,
) -> tuple[PeftModel, AdapterBank]:
    """Return ``base``, frozen, with fresh adapters, and the bank that names them; see ``build_model``."""
    model = get_peft_model(base, adapter_config(adapter, adapters, seed))
    # What is fixed is the same on every process; DistributedDataParallel would send it before every forward pass.
    model._ddp_params_and_buffers_to_ignore = [name for name, _ in model.named_buffers() if "neuromas_" in name]
    return model, AdapterBank(model)
