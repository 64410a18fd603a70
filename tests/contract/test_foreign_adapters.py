"""PEFT folders of other methods as LoRAs: against what PEFT itself says with them."""

from __future__ import annotations

import json
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
    ],
)
def test_what_cannot_be_a_node_is_refused(
    small_base: Path, tmp_path: Path, settings: dict[str, Any], message: str
) -> None:
    folder = saved(small_base, tmp_path / "made", LoraConfig(r=2, target_modules=TARGETS))
    change(folder, **settings)
    with pytest.raises(AdapterError, match=message):
        read_foreign(folder, small_base, 8)


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
