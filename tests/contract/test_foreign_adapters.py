"""PEFT folders of other methods as LoRAs: against what PEFT itself says with them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import (
    HRAConfig,
    IA3Config,
    LoHaConfig,
    LoKrConfig,
    LoraConfig,
    OFTConfig,
    PeftConfig,
    PeftModel,
    PromptTuningConfig,
    PsoftConfig,
    UniLoraConfig,
    VBLoRAConfig,
    VeraConfig,
    get_peft_model,
)
from safetensors.torch import load_file, save_file
from torch import Tensor

from neuromas.adapters.build import load_base
from neuromas.adapters.export import read_peft_folder, write_peft_folder
from neuromas.adapters.foreign import nearest_pair, read_foreign
from neuromas.errors import AdapterError

TARGETS = ["q_proj", "down_proj"]
FULL = 64
"""No layer of the base has a larger rank."""
METHODS: dict[str, PeftConfig] = {
    "rslora": LoraConfig(r=4, lora_alpha=3, use_rslora=True, target_modules=TARGETS),
    "patterns": LoraConfig(r=4, rank_pattern={"q_proj": 2}, alpha_pattern={"down_proj": 9}, target_modules=TARGETS),
    "dora": LoraConfig(r=4, use_dora=True, target_modules=TARGETS),
    "pissa": LoraConfig(r=4, init_lora_weights="pissa", target_modules=TARGETS),
    "ia3": IA3Config(target_modules=TARGETS, feedforward_modules=["down_proj"]),
    "oft": OFTConfig(r=0, oft_block_size=8, target_modules=TARGETS),
    "hra": HRAConfig(r=4, target_modules=TARGETS),
    "loha": LoHaConfig(r=2, target_modules=TARGETS),
    "lokr": LoKrConfig(r=2, target_modules=TARGETS),
    "vera": VeraConfig(r=8, target_modules=["q_proj"]),
    "vblora": VBLoRAConfig(r=2, num_vectors=8, vector_length=8, target_modules=TARGETS),
    "psoft": PsoftConfig(r=4, psoft_alpha=4, target_modules=TARGETS),
    "unilora": UniLoraConfig(r=2, theta_d_length=32, target_modules=TARGETS),
}
OF_RANK = {"rslora": 4, "patterns": 4, "hra": 4, "vera": 8, "vblora": 2, "unilora": 2, "pissa": 8}
"""The rank of the update, where the method says it."""


def saved(base: Path, folder: Path, config: PeftConfig) -> Path:
    """Return a folder that PEFT has saved of an adapter whose trained numbers have moved from their start."""
    config.task_type = "CAUSAL_LM"
    torch.manual_seed(0)
    model = get_peft_model(load_base(base), config)
    generator = torch.Generator().manual_seed(1)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator)
    model.save_pretrained(folder)
    return folder


def change(folder: Path, **settings: Any) -> None:
    file = folder / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | settings))


@torch.no_grad()
def said(model: torch.nn.Module) -> Tensor:
    ids = torch.randint(0, 40, (3, 10), generator=torch.Generator().manual_seed(2))
    return model.eval()(input_ids=ids).logits.log_softmax(-1)


@pytest.mark.parametrize("method", METHODS)
def test_a_lora_of_enough_rank_says_what_the_folder_says_in_peft(small_base: Path, tmp_path: Path, method: str) -> None:
    folder = saved(small_base, tmp_path / "made", METHODS[method])
    theirs = said(PeftModel.from_pretrained(load_base(small_base), folder))
    assert (theirs - said(load_base(small_base))).abs().max() > 1e-2
    found = read_foreign(folder, small_base, OF_RANK.get(method, FULL))
    assert found.method == METHODS[method].peft_type.value
    assert found.error < 1e-4
    write_peft_folder(found.lora, "small", tmp_path / "lora")
    ours = said(PeftModel.from_pretrained(load_base(small_base), tmp_path / "lora"))
    torch.testing.assert_close(ours, theirs, rtol=0, atol=2e-4)


@pytest.mark.parametrize("method", ["dora", "ia3", "oft", "loha"])
def test_the_error_of_too_low_a_rank_is_that_of_the_nearest_lora(small_base: Path, tmp_path: Path, method: str) -> None:
    folder = saved(small_base, tmp_path / "made", METHODS[method])
    found = read_foreign(folder, small_base, 3)
    merged = PeftModel.from_pretrained(load_base(small_base), folder).merge_and_unload().state_dict()
    before, errors = load_base(small_base).state_dict(), {}
    for path, (a, b) in found.lora.modules.items():
        update = (merged[f"{path}.weight"] - before[f"{path}.weight"]).double()
        tail = torch.linalg.svdvals(update)[3:].norm() / update.norm()
        left = (update - torch.from_numpy(b).double() @ torch.from_numpy(a).double()).norm() / update.norm()
        torch.testing.assert_close(left, tail, rtol=1e-3, atol=1e-6)
        errors[path] = float(tail)
    assert len(errors) == 4
    assert found.error == pytest.approx(max(errors.values()), rel=1e-3)
    assert errors[found.worst] == max(errors.values())
    assert 0.01 < found.error < 1


def test_a_plain_lora_keeps_its_own_factors_and_a_lower_rank_its_nearest(small_base: Path, tmp_path: Path) -> None:
    folder = saved(small_base, tmp_path / "made", LoraConfig(r=4, lora_alpha=8, target_modules=TARGETS))
    exact, near = read_foreign(folder, small_base, 16), read_foreign(folder, small_base, 2)
    own = read_peft_folder(folder)
    assert (exact.lora.rank, exact.error) == (4, 0.0)
    for path, (a, b) in own.modules.items():
        assert (exact.lora.modules[path][0] == a).all()
        assert (exact.lora.modules[path][1] == b).all()
        assert near.lora.modules[path][0].shape[0] == 2
    assert 0.01 < near.error < 1


def test_the_nearest_pair_of_a_known_update() -> None:
    update = torch.diag(torch.tensor([3.0, 4.0, 0.0]))
    (a, b), error = nearest_pair(update, 1)
    torch.testing.assert_close(torch.from_numpy(b @ a), torch.diag(torch.tensor([0.0, 4.0, 0.0])))
    assert error == pytest.approx(0.6)
    (a, b), error = nearest_pair(update, 5)
    assert (a.shape, b.shape, error) == ((5, 3), (3, 5), 0.0)
    torch.testing.assert_close(torch.from_numpy(b @ a), update)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"peft_type": "MAGIC"}, "got type 'MAGIC', allowed are those of PEFT"),
        ({"alora_invocation_tokens": [5]}, "acts from some token on"),
        ({"target_modules": ["q_proj", "up_proj"], "use_dora": True}, "do not fit the base"),
        ({"target_modules": ["elsewhere"], "use_dora": True}, "PEFT cannot merge it"),
        ({"target_modules": "(", "use_dora": True}, "PEFT cannot merge it"),
        ({"rank_pattern": [1]}, "PEFT cannot merge it"),
        ({"rank_pattern": {"q_proj": 10**7}}, "got rank 1e\\+07 in adapter_config.json, no tensor is larger than 168"),
        ({"peft_type": "XLORA", "adapters": {"0": "/nowhere"}}, "got type 'XLORA', allowed are those of PEFT"),
        (
            {"megatron_config": {"a": 1}, "megatron_core": "antigravity"},
            "got megatron_config, which has PEFT",
        ),
        ({"r": None}, "got r None and lora_alpha 8"),
        ({"r": 0}, "got r 0 and lora_alpha 8"),
        ({"r": "2"}, "got r '2' and lora_alpha 8"),
        ({"lora_alpha": "x"}, "got r 2 and lora_alpha 'x'"),
        ({"r": 3}, r"expected \(3, in\) and \(out, 3\)"),
    ],
)
def test_what_cannot_be_a_node_is_refused(
    small_base: Path, tmp_path: Path, settings: dict[str, Any], message: str
) -> None:
    folder = saved(small_base, tmp_path / "made", LoraConfig(r=2, target_modules=TARGETS))
    change(folder, **settings)
    with pytest.raises(AdapterError, match=message):
        read_foreign(folder, small_base, 8)


Tensors = dict[str, Tensor]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (lambda own: {key: value for key, value in own.items() if "lora_A" in key}, "4 tensors for 0 modules"),
        (lambda own: dict(list(own.items())[1:]), "7 tensors for 3 modules"),
        (lambda own: {key: value * float("nan") for key, value in own.items()}, "holds NaN or infinite numbers"),
        (lambda own: {key: value.int() for key, value in own.items()}, "holds I32, allowed are F32, F16, BF16, F64"),
    ],
)
def test_weights_that_are_no_plain_lora_are_refused(
    small_base: Path, tmp_path: Path, changed: Callable[[Tensors], Tensors], message: str
) -> None:
    folder = saved(small_base, tmp_path / "made", LoraConfig(r=2, target_modules=TARGETS))
    file = folder / "adapter_model.safetensors"
    save_file(changed({key: value.clone() for key, value in load_file(file).items()}), file)
    for rank in (8, 1):
        with pytest.raises(AdapterError, match=message):
            read_foreign(folder, small_base, rank)
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(AdapterError, match="no whole safetensors file"):
        read_foreign(folder, small_base, 8)


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16, torch.float64])
def test_numbers_of_other_kinds_are_read_as_they_are(small_base: Path, tmp_path: Path, kind: torch.dtype) -> None:
    folder = saved(small_base, tmp_path / "made", LoraConfig(r=2, lora_alpha=2, target_modules=TARGETS))
    file = folder / "adapter_model.safetensors"
    rounded = {key: value.to(kind) for key, value in load_file(file).items()}
    save_file(rounded, file)
    for path, (a, b) in read_foreign(folder, small_base, 8).lora.modules.items():
        for letter, found in (("A", a), ("B", b)):
            expected = rounded[f"base_model.model.{path}.lora_{letter}.weight"].float()
            torch.testing.assert_close(torch.from_numpy(found), expected, rtol=0, atol=0)


def test_what_changes_more_than_linear_layers_is_refused(small_base: Path, tmp_path: Path) -> None:
    config = LoraConfig(r=2, target_modules=TARGETS, modules_to_save=["norm"])
    folder = saved(small_base, tmp_path / "made", config)
    with pytest.raises(AdapterError, match=r"it changes \['model\.layers\.0\.input_layernorm\.weight'"):
        read_foreign(folder, small_base, 8)


def test_an_adapter_of_a_deeper_base_is_refused(small_base: Path, tmp_path: Path) -> None:
    folder = saved(small_base, tmp_path / "made", HRAConfig(r=2, target_modules=TARGETS))
    tensors = load_file(folder / "adapter_model.safetensors")
    deeper = {key.replace("layers.1.", "layers.7."): value.clone() for key, value in tensors.items()}
    save_file(tensors | deeper, folder / "adapter_model.safetensors")
    with pytest.raises(AdapterError, match=r"layers\.7.* are too many"):
        read_foreign(folder, small_base, 8)


def test_weights_are_read_from_safetensors_alone(small_base: Path, tmp_path: Path) -> None:
    folder = saved(small_base, tmp_path / "made", HRAConfig(r=2, target_modules=TARGETS))
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")
    with pytest.raises(AdapterError, match=r"holds no adapter_config\.json and adapter_model\.safetensors"):
        read_foreign(folder, small_base, 8)


def test_a_prompt_adapter_is_refused(small_base: Path, tmp_path: Path) -> None:
    folder = saved(small_base, tmp_path / "made", PromptTuningConfig(num_virtual_tokens=3))
    with pytest.raises(AdapterError, match="adds to the prompt"):
        read_foreign(folder, small_base, 8)
