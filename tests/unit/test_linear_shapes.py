from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from neuromas.adapters.families.contract import ModuleShape
from neuromas.base.linears import linear_shapes
from neuromas.errors import BaseModelError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shapes = {
        "model.embed_tokens.weight": (9, 4),
        "model.layers.0.self_attn.q_proj.weight": (8, 4),
        "model.layers.0.self_attn.q_proj.bias": (8,),
        "model.layers.1.self_attn.q_proj.weight": (8, 4),
        "model.layers.0.mlp.up_proj.weight": (6, 4),
        "model.layers.0.input_layernorm.weight": (4,),
        "lm_head.weight": (9, 4),
    }
    save_file({key: np.zeros(shape, np.float32) for key, shape in shapes.items()}, tmp_path / "model.safetensors")
    return tmp_path


def test_layers_are_found_by_their_last_name(folder: Path) -> None:
    assert linear_shapes(folder, ["q_proj"]) == (
        ModuleShape("model.layers.0.self_attn.q_proj", in_features=4, out_features=8),
        ModuleShape("model.layers.1.self_attn.q_proj", in_features=4, out_features=8),
    )


@pytest.mark.parametrize("target", ["lm_head", "embed_tokens", "input_layernorm", "nothing"])
def test_what_is_no_linear_layer_is_refused_with_those_that_are(folder: Path, target: str) -> None:
    with pytest.raises(BaseModelError, match=rf"got {target}, which no layer .*; allowed are q_proj, up_proj$"):
        linear_shapes(folder, ["q_proj", target])
