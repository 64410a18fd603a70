import json
import pickle
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuromas.adapters.export import (
    ENGINE_RANKS,
    check_servable,
    engine_rank,
    padded,
    read_peft_folder,
    write_peft_folder,
)
from neuromas.adapters.ref import PlainLora
from neuromas.errors import AdapterError

PATH = "model.layers.0.self_attn.q_proj"


def lora(rank: int = 2, seed: int = 0) -> PlainLora:
    rng = np.random.default_rng(seed)
    a = rng.standard_normal((rank, 6)).astype(np.float32)
    b = rng.standard_normal((4, rank)).astype(np.float32)
    return PlainLora(rank, {PATH: (a, b), "model.layers.0.mlp.up_proj": (a * 2, b * 3)})


@given(st.integers(min_value=1, max_value=512))
def test_engine_rank_is_the_smallest_limit_that_holds_the_adapter(rank):
    assert engine_rank(rank) == min(limit for limit in ENGINE_RANKS if limit >= rank)


@pytest.mark.parametrize("rank", [0, -1, 513])
def test_engine_rank_refuses_what_no_engine_holds(rank):
    with pytest.raises(AdapterError, match=r"allowed are 1\.\.512"):
        engine_rank(rank)


@given(st.integers(min_value=1, max_value=4), st.integers(min_value=0, max_value=6))
def test_padding_keeps_the_update(rank, extra):
    before, after = lora(rank), padded(lora(rank), rank + extra)
    assert after.rank == rank + extra
    for path, (a, b) in before.modules.items():
        padded_a, padded_b = after.modules[path]
        assert padded_a.shape == (rank + extra, 6)
        assert padded_b.shape == (4, rank + extra)
        np.testing.assert_allclose(padded_b @ padded_a, b @ a, rtol=1e-6, atol=1e-6)


def test_padding_down_is_refused():
    with pytest.raises(AdapterError, match="can only be raised"):
        padded(lora(8), 4)


def test_a_rank_above_the_engines_limit_is_refused_before_it_reaches_the_engine():
    with pytest.raises(AdapterError, match="at most 8; start it with max_lora_rank 16"):
        check_servable("solver", lora(9), max_rank=8)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_numbers_that_are_not_finite_are_refused(bad):
    broken = lora()
    broken.modules[PATH][1][0, 0] = bad
    with pytest.raises(AdapterError, match=f"^adapter 'solver': {re.escape(PATH)}/B holds NaN or infinite numbers"):
        check_servable("solver", broken, max_rank=8)


def test_a_folder_reads_back_bit_for_bit(tmp_path):
    write_peft_folder(lora(), "tiny", tmp_path / "a")
    back = read_peft_folder(tmp_path / "a")
    assert back.rank == 2
    assert set(back.modules) == set(lora().modules)
    for path, (a, b) in lora().modules.items():
        np.testing.assert_array_equal(back.modules[path][0], a)
        np.testing.assert_array_equal(back.modules[path][1], b)


def test_a_folder_says_alpha_equals_rank_and_has_no_patterns(tmp_path):
    write_peft_folder(lora(), "tiny", tmp_path / "a")
    config = json.loads((tmp_path / "a" / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"], config["bias"]) == (2, 2, "none")
    assert config["target_modules"] == ["q_proj", "up_proj"]
    assert "rank_pattern" not in config


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"use_dora": True}, "use_dora"),
        ({"rank_pattern": {"q_proj": 4}}, "rank_pattern"),
        ({"bias": "all"}, "bias"),
        ({"peft_type": "IA3"}, "IA3"),
    ],
)
def test_reading_refuses_what_a_plain_lora_cannot_say(tmp_path, change, message):
    write_peft_folder(lora(), "tiny", tmp_path / "a")
    file = tmp_path / "a" / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(AdapterError, match=message):
        read_peft_folder(tmp_path / "a")


def test_reading_bakes_a_stock_files_scale_into_b(tmp_path):
    write_peft_folder(lora(), "tiny", tmp_path / "a")
    file = tmp_path / "a" / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"lora_alpha": 6}))
    np.testing.assert_allclose(read_peft_folder(tmp_path / "a").modules[PATH][1], 3 * lora().modules[PATH][1])


def test_a_plain_lora_survives_pickling():
    back = pickle.loads(pickle.dumps(lora()))
    np.testing.assert_array_equal(back.modules[PATH][0], lora().modules[PATH][0])
    assert back.num_bytes == lora().num_bytes == 2 * 4 * (2 * 6 + 4 * 2)
