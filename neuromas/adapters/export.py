"""Plain LoRA folders that stock PEFT and stock vLLM load. Loads no torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from safetensors import SafetensorError, deserialize
from safetensors.numpy import save_file

from neuromas.adapters.ref import Array, PlainLora
from neuromas.errors import AdapterError

ENGINE_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""Values that vLLM 0.32 takes for ``max_lora_rank``; an adapter's own rank may be anything up to it."""
_PREFIX = "base_model.model."
_BEYOND: Final = (
    "alpha_pattern",
    "alora_invocation_tokens",
    "layer_replication",
    "lora_bias",
    "modules_to_save",
    "rank_pattern",
    "target_parameters",
    "trainable_token_indices",
    "use_bdlora",
    "use_dora",
    "use_qalora",
    "velora_config",
)
"""Settings of PEFT's LoRA that make more of it than B A at one scale."""
_STARTS: Final = (True, False, None, "gaussian", "eva", "orthogonal")
"""Starts of PEFT's LoRA (``init_lora_weights``) that leave the base's weights as they are."""
_FLOATS: Final = {"F32": "<f4", "F16": "<f2", "BF16": "<u2", "F64": "<f8"}
"""Kinds of numbers that weights are read from, with numpy's names."""
CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"


def engine_rank(rank: int) -> int:
    """Return the smallest rank limit of an engine that holds adapters of ``rank``.

    Raises:
        AdapterError: no engine holds this rank.
    """
    for allowed in ENGINE_RANKS:
        if 1 <= rank <= allowed:
            return allowed
    raise AdapterError(
        f"adapter rank: got {rank}, allowed are 1..{ENGINE_RANKS[-1]}, the largest that vLLM serves (adapter.rank)"
    )


def padded(lora: PlainLora, rank: int) -> PlainLora:
    """Return the same update at a higher rank, by rows of zeros in A and columns of zeros in B.

    Raises:
        AdapterError: ``rank`` is below the adapter's own.
    """
    extra = rank - lora.rank
    if extra < 0:
        raise AdapterError(f"adapter rank: got {rank} for an adapter of rank {lora.rank}; it can only be raised")
    if extra == 0:
        return lora
    modules = {
        path: (np.pad(a, ((0, extra), (0, 0))), np.pad(b, ((0, 0), (0, extra))))
        for path, (a, b) in lora.modules.items()
    }
    return PlainLora(rank, modules)


def check_servable(name: str, lora: PlainLora, max_rank: int) -> None:
    """Refuse what would stop an engine: a rank above its limit kills vLLM, and NaN answers with garbage.

    Raises:
        AdapterError: says which adapter and module, and what is wrong.
    """
    if not 1 <= lora.rank <= max_rank:
        raise AdapterError(
            f"adapter {name!r}: got rank {lora.rank}, the engine holds at most {max_rank}; start it with max_lora_rank "
            f"{engine_rank(lora.rank)}"
        )
    if not lora.modules:
        raise AdapterError(f"adapter {name!r}: got one without modules, expected at least one")
    if (tensor := lora.broken()) is not None:
        raise AdapterError(
            f"adapter {name!r}: {tensor} holds NaN or infinite numbers; the training step that made them is wrong"
        )


def write_peft_folder(lora: PlainLora, base_name: str, folder: Path) -> None:
    """Write a stock PEFT LoRA: alpha = r and no patterns, so that every reader scales it alike.

    Args:
        lora: the adapter; its rank is kept.
        base_name: base model that readers are told it belongs to.
        folder: made if missing; must not hold an adapter already. Errors call the adapter by its name.

    Raises:
        AdapterError: the adapter cannot be served, or the folder holds one.
    """
    check_servable(folder.name, lora, ENGINE_RANKS[-1])
    if (folder / CONFIG).exists():
        raise AdapterError(f"adapter folder {folder} holds an adapter already; versions are never overwritten")
    folder.mkdir(parents=True, exist_ok=True)
    tensors: dict[str, Array] = {}
    for path, (a, b) in lora.modules.items():
        tensors[f"{_PREFIX}{path}.lora_A.weight"] = np.ascontiguousarray(a)
        tensors[f"{_PREFIX}{path}.lora_B.weight"] = np.ascontiguousarray(b)
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base_name,
        "r": lora.rank,
        "lora_alpha": lora.rank,
        "lora_dropout": 0.0,
        "bias": "none",
        "target_modules": sorted({path.rpartition(".")[2] for path in lora.modules}),
        "fan_in_fan_out": False,
        "inference_mode": True,
        "init_lora_weights": True,
        "modules_to_save": None,
        "use_dora": False,
        "use_rslora": False,
    }
    (folder / CONFIG).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def is_plain(config: Mapping[str, object]) -> bool:
    """Whether a PEFT config is that of a LoRA that is B A at one scale on every layer."""
    is_lora = config.get("peft_type") == "LORA" and config.get("bias", "none") == "none"
    starts_apart = config.get("init_lora_weights") in _STARTS
    return is_lora and starts_apart and not any(config.get(key) for key in _BEYOND)


def read_peft_folder(folder: Path) -> PlainLora:
    """Return the adapter of a folder that ``write_peft_folder`` or stock PEFT wrote, its scale baked into B.

    Raises:
        AdapterError: the folder holds no LoRA, or one that is more than a plain LoRA.
    """
    if not (folder / CONFIG).is_file() or not (folder / WEIGHTS).is_file():
        raise AdapterError(f"adapter folder {folder} holds no {CONFIG} and {WEIGHTS}")
    config = json.loads((folder / CONFIG).read_text())
    if not is_plain(config):
        beyond = [key for key in _BEYOND if config.get(key)]
        raise AdapterError(
            f"adapter folder {folder}: got type {config.get('peft_type')!r}, bias {config.get('bias')!r}, start "
            f"{config.get('init_lora_weights')!r} and {beyond}, expected a plain LoRA without bias, patterns, saved "
            "modules or DoRA, whose start left the base as it was"
        )
    rank, scale = _size(config, folder)
    tensors = _read_tensors(folder)
    suffix = ".lora_A.weight"
    modules: dict[str, tuple[Array, Array]] = {}
    for key, a in tensors.items():
        b = tensors.get(key.removesuffix(suffix) + ".lora_B.weight")
        if key.endswith(suffix) and b is not None:
            path = key.removeprefix(_PREFIX).removesuffix(suffix)
            modules[path] = (a, b if scale == 1 else b * np.float32(scale))
    if 2 * len(modules) != len(tensors):
        raise AdapterError(
            f"adapter folder {folder}: got {len(tensors)} tensors for {len(modules)} modules, expected 2 each"
        )
    return PlainLora(rank, modules)


def _size(config: Mapping[str, Any], folder: Path) -> tuple[int, float]:
    """Return the rank that a plain LoRA's config tells, and its scale."""
    rank, alpha = config.get("r"), config.get("lora_alpha")
    if not isinstance(rank, int) or rank < 1 or not isinstance(alpha, int | float):
        raise AdapterError(
            f"adapter folder {folder}: got r {rank!r:.40} and lora_alpha {alpha!r:.40} in {CONFIG}, expected a whole "
            "number above 0 and a number"
        )
    return rank, alpha / (rank**0.5 if config.get("use_rslora") else rank)


def _read_tensors(folder: Path) -> dict[str, Array]:
    """Return the tensors of a folder's weights by name, as float32."""
    try:
        found = deserialize((folder / WEIGHTS).read_bytes())  # type: ignore[no-untyped-call]
    except SafetensorError as error:
        raise AdapterError(f"adapter folder {folder}: {WEIGHTS} is no whole safetensors file ({error})") from error
    tensors = {}
    for name, tensor in sorted(found, key=lambda one: one[0]):
        kind = str(tensor["dtype"])
        if kind not in _FLOATS:
            raise AdapterError(f"adapter folder {folder}: {name} holds {kind}, allowed are {', '.join(_FLOATS)}")
        flat = np.frombuffer(tensor["data"], _FLOATS[kind])
        if kind == "BF16":  # the upper half of a float32, which numpy has no name for
            flat = (flat.astype("<u4") << 16).view("<f4")
        tensors[name] = flat.astype(np.float32, copy=False).reshape(tensor["shape"])
    return tensors
