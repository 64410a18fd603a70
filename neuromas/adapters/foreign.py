"""Adapters that were made elsewhere: any PEFT folder as the LoRA of a node, exactly or with its error.

What PEFT merges into the base is what an adapter means, whatever its method: the difference to the base, layer by
layer, is the update. Its truncated singular value decomposition is the nearest LoRA of a rank (Eckart and Young 1936).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from peft import PeftConfig, get_peft_model
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING
from peft.utils import PeftType
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from neuromas.adapters.export import CONFIG, WEIGHTS, is_plain, read_peft_folder
from neuromas.adapters.families.map import SLOT
from neuromas.adapters.frozen_base import load_base
from neuromas.adapters.ref import Array, PlainLora
from neuromas.errors import AdapterError

_OF_OTHERS: Final = (PeftType.XLORA,)
"""Types that are made of further adapters, which their config names: PEFT would read or download them."""
_NAMES_CODE: Final = ("megatron_config", "corda_config", "lora_ga_config")
"""Settings of PEFT's LoRA that name a module to import, or files to unpickle."""


@dataclass(frozen=True, slots=True)
class Foreign:
    """An adapter of a PEFT folder, as a LoRA.

    Attributes:
        lora: the nearest of the rank that was asked for, or of its own where that is lower.
        method: PEFT's name of what it is.
        error: largest relative error of a layer, ||dW - B A|| / ||dW|| in the Frobenius norm; 0 = the folder's own A
            and B.
        worst: path of that layer.
    """

    lora: PlainLora
    method: str
    error: float = 0.0
    worst: str = ""


def read_foreign(folder: Path, base_folder: Path, rank: int) -> Foreign:
    """Return the adapter of a PEFT folder as a LoRA of at most ``rank``.

    Args:
        folder: as PEFT saves it, with safetensors.
        base_folder: the base that it was trained on.
        rank: largest rank.

    Raises:
        AdapterError: there is no adapter, PEFT cannot put it on this base, or it changes more than the weights of
            linear layers.
    """
    config = _read_config(folder)
    method = str(config["peft_type"])
    if is_plain(config):
        lora = read_peft_folder(folder)
        if (broken := lora.broken()) is not None:
            raise AdapterError(f"adapter folder {folder}: {broken} holds NaN or infinite numbers")
        if lora.rank <= rank:
            return Foreign(lora, method)
        updates = {path: _tensor(b) @ _tensor(a) for path, (a, b) in lora.modules.items()}
    else:
        updates = _merged(config, folder, base_folder)
    pairs, errors = {}, {}
    for path, update in updates.items():
        pairs[path], errors[path] = nearest_pair(update, rank)
    if not pairs:
        raise AdapterError(f"adapter folder {folder}: it changes nothing of the base")
    worst = max(errors, key=lambda path: errors[path])
    return Foreign(PlainLora(rank, pairs), method, errors[worst], worst)


def nearest_pair(update: Tensor, rank: int) -> tuple[tuple[Array, Array], float]:
    """Return A (rank, in) and B (out, rank) whose product is nearest to an update (out, in), and the relative error."""
    left, sizes, right = torch.linalg.svd(update.double(), full_matrices=False)
    error = float(sizes[rank:].norm() / sizes.norm())
    kept = min(rank, len(sizes))
    roots = sizes[:kept].sqrt()
    a, b = (roots[:, None] * right[:kept]).float().numpy(), (left[:, :kept] * roots).float().numpy()
    spare = rank - kept
    return (np.pad(a, ((0, spare), (0, 0))), np.pad(b, ((0, 0), (0, spare)))), error


def _tensor(array: Array) -> Tensor:
    return torch.from_numpy(array).double()


def _read_config(folder: Path) -> dict[str, Any]:
    if not (folder / CONFIG).is_file() or not (folder / WEIGHTS).is_file():
        raise AdapterError(
            f"adapter folder {folder} holds no {CONFIG} and {WEIGHTS}; weights are read from safetensors"
        )
    try:
        config: Any = json.loads((folder / CONFIG).read_text())
    except ValueError as error:
        raise AdapterError(f"adapter folder {folder}: {CONFIG} is no JSON ({error})") from error
    known = sorted(kind.value for kind in PeftType if kind in PEFT_TYPE_TO_CONFIG_MAPPING if kind not in _OF_OTHERS)
    method = config.get("peft_type") if isinstance(config, dict) else None
    if not isinstance(config, dict) or method not in known:
        raise AdapterError(f"adapter folder {folder}: got type {method!r}, allowed are those of PEFT: {known}")
    if PEFT_TYPE_TO_CONFIG_MAPPING[method](peft_type=method).is_prompt_learning:
        raise AdapterError(f"adapter folder {folder}: got type {method!r}, which adds to the prompt, not to weights")
    if named := [key for key in _NAMES_CODE if config.get(key)]:
        raise AdapterError(f"adapter folder {folder}: got {named[0]}, which has PEFT load code or files by name")
    if config.get("alora_invocation_tokens"):
        raise AdapterError(f"adapter folder {folder}: an activated LoRA acts from some token on, a node's on all")
    return config


def _merged(config: Mapping[str, Any], folder: Path, base_folder: Path) -> dict[str, Tensor]:
    """Return what each linear layer's weight gains when PEFT merges the adapter, float64, by path.

    Some methods merge in float32 only: what is exact has an error of about 1e-6.
    """
    _check_ranks(config, folder)
    base = load_base(base_folder, torch.float32)
    before = {key: value.clone() for key, value in base.state_dict().items()}
    head = base.get_output_embeddings()
    layers = [path for path, module in base.named_modules() if isinstance(module, nn.Linear) and module is not head]
    try:
        model = get_peft_model(base, PeftConfig.from_pretrained(str(folder)), autocast_adapter_dtype=False)
        found = model.load_adapter(str(folder), SLOT, torch_device="cpu", autocast_adapter_dtype=False)
        missing = _missing(model, found.missing_keys)
        after = model.merge_and_unload(safe_merge=True).state_dict()
    except Exception as error:  # what PEFT makes of a config that nobody has checked has no common type
        raise AdapterError(f"adapter folder {folder}: PEFT cannot merge it into the base: {error}") from error
    if missing or found.unexpected_keys:
        raise AdapterError(
            f"adapter folder {folder}: its tensors do not fit the base: {missing[:3]} are missing, "
            f"{sorted(found.unexpected_keys)[:3]} are too many"
        )
    changed = [key for key in after if key not in before or not torch.equal(after[key], before[key])]
    if beyond := sorted(set(changed) - {f"{path}.weight" for path in layers}):
        raise AdapterError(
            f"adapter folder {folder}: it changes {beyond[:3]}; a node's adapter can only change weights of linear "
            "layers, without the head"
        )
    return {key.removesuffix(".weight"): after[key].double() - before[key].double() for key in changed}


def _check_ranks(config: Mapping[str, Any], folder: Path) -> None:
    """Refuse ranks that no tensor has: PEFT would make matrices of their size before it looks at the file."""
    try:
        with safe_open(folder / WEIGHTS, framework="np") as file:
            largest = max((size for key in file.keys() for size in file.get_slice(key).get_shape()), default=0)  # noqa: SIM118
    except SafetensorError as error:
        raise AdapterError(f"adapter folder {folder}: {WEIGHTS} is no whole safetensors file ({error})") from error
    patterns = config.get("rank_pattern")
    told = [config.get("r"), config.get("init_r"), *(patterns.values() if isinstance(patterns, dict) else ())]
    if beyond := [rank for rank in told if isinstance(rank, int | float) and rank > largest]:
        raise AdapterError(
            f"adapter folder {folder}: got rank {max(beyond):g} in {CONFIG}, no tensor is larger than {largest}"
        )


def _missing(model: nn.Module, keys: Sequence[str]) -> list[str]:
    """Return the missing tensors that are no second name of one that was read: methods share some between layers."""
    state = model.state_dict()
    read = {value.data_ptr() for key, value in state.items() if key not in keys}
    return sorted(key for key in keys if key not in state or state[key].data_ptr() not in read)
