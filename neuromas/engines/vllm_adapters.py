"""LoRA weights from memory into vLLM's workers, without a file in between."""

from __future__ import annotations

from typing import Any

import torch
from vllm.lora.lora_model import LoRAModel
from vllm.lora.peft_helper import PEFTHelper

from neuromas.adapters.ref import PlainLora


def check_adapter(worker: Any, name: str, lora: PlainLora) -> str | None:
    """Return what is wrong with an adapter for the model of a vLLM worker, None when it fits.

    vLLM itself ignores modules it does not know and copies a wrong shape as far as it goes. Runs inside the worker
    (``LLMEngine.collective_rpc``); sharded layers are not compared by shape.
    """
    manager = worker.model_runner.lora_manager._adapter_manager
    shapes: dict[str, tuple[int, int]] = {}
    for path, module in manager.modules.items():
        slices = manager.packed_modules.get(path, [path])
        if module.tp_size > 1:
            shapes.update(dict.fromkeys(slices, (0, 0)))
            continue
        stacks = zip(slices, module.lora_a_stacked, module.lora_b_stacked, strict=False)
        shapes.update({part: (a.shape[-1], b.shape[-2]) for part, a, b in stacks})
    for path, (a, b) in lora.modules.items():
        if path not in shapes:
            return f"adapter {name}: the engine has no adapter layer {path!r}"
        shape = (a.shape[1], b.shape[0])
        if shapes[path] not in (shape, (0, 0)):
            return f"adapter {name}: {path} maps {shape[0]} to {shape[1]} features, the base's layer {shapes[path]}"
    return None


def look_up_adapters(worker: Any) -> None:
    """Have vLLM look an adapter up among those it holds instead of listing them all. Runs inside the worker.

    It asks for each adapter of each step, so that a step over N adapters would take time in N squared.
    """
    outer = worker.model_runner.lora_manager
    outer.list_adapters = outer._adapter_manager._registered_adapters.cache.keys


def put_adapter(worker: Any, lora_id: int, lora: PlainLora) -> None:
    """Register an adapter under a number never used before and copy it into a free slot. Runs inside the worker.

    The same calls that vLLM makes for an adapter file. Requests that name the number find it loaded.
    """
    outer = worker.model_runner.lora_manager
    manager = outer._adapter_manager
    tensors = {}
    for path, (a, b) in lora.modules.items():
        tensors[f"base_model.model.{path}.lora_A.weight"] = torch.tensor(a)
        tensors[f"base_model.model.{path}.lora_B.weight"] = torch.tensor(b)
    model = LoRAModel.from_lora_tensors(
        lora_id,
        tensors,
        PEFTHelper(r=lora.rank, lora_alpha=lora.rank, target_modules=[]),
        device="cpu",
        dtype=outer.lora_config.lora_dtype,
    )
    manager.add_adapter(model)
    manager.activate_adapter(lora_id)
