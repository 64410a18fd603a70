"""The frozen base: however often it is loaded, its weights are held once."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel

from neuromas.adapters.frozen_base import load_base
from neuromas.base.resolve import resolve_base

DTYPES = [torch.float32, torch.bfloat16]
"""The number format that the shipped base is stored in, and one that it is not."""


def places(model: PreTrainedModel) -> dict[str, int]:
    return {name: weight.data_ptr() for name, weight in model.named_parameters()}


def mapped(path: Path) -> list[range]:
    """Return the addresses at which this process holds a file."""
    lines = [line.split() for line in Path("/proc/self/maps").read_text().splitlines() if line.endswith(str(path))]
    return [range(*(int(end, 16) for end in line[0].split("-"))) for line in lines]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(resolve_base("tiny"), tmp_path / "base"))


def test_weights_that_are_stored_in_the_number_format_are_the_files_own_memory(folder: Path) -> None:
    model = load_base(folder)
    (file,) = folder.glob("*.safetensors")
    held = mapped(file)
    assert held
    assert all(any(place in part for part in held) for place in places(model).values())


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_base_that_is_loaded_twice_is_held_once_and_outlives_the_first(folder: Path, dtype: torch.dtype) -> None:
    first, second = load_base(folder, dtype), load_base(folder, dtype)
    assert first.dtype == second.dtype == dtype
    assert places(first) == places(second)
    del first
    (file,) = folder.glob("*.safetensors")
    for name, stored in load_file(file).items():
        assert torch.equal(second.get_parameter(name), stored.to(dtype))


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_base_whose_file_was_replaced_shares_what_is_still_the_same(folder: Path, dtype: torch.dtype) -> None:
    first = load_base(folder, dtype)
    (file,) = folder.glob("*.safetensors")
    weights = {name: weight.clone() for name, weight in load_file(file).items()}
    changed = "model.layers.0.self_attn.q_proj.weight"
    save_file(weights | {changed: weights[changed] + 1}, folder / "new", {"format": "pt"})
    (folder / "new").replace(file)
    second = load_base(folder, dtype)
    assert torch.equal(first.get_parameter(changed), weights[changed].to(dtype))
    assert torch.equal(second.get_parameter(changed), (weights[changed] + 1).to(dtype))
    assert {name for name, place in places(first).items() if place != places(second)[name]} == {changed}


def test_a_file_beside_the_base_that_is_not_a_model_is_left_alone(folder: Path) -> None:
    (folder / "notes.safetensors").write_text("not one")
    assert torch.equal(load_base(folder).get_parameter("model.norm.weight"), load_base(folder).model.norm.weight)
