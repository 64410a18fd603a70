"""The memory of an update stays within what `neuromas validate` says, at the default settings."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import update_peak
from transformers import LlamaConfig, LlamaForCausalLM

from neuromas.base.resolve import resolve_base


def random_base(folder: Path) -> Path:
    """A third of SmolLM2-135M's layers, in its shape, with random weights."""
    config = LlamaConfig(
        hidden_size=576,
        intermediate_size=1536,
        num_hidden_layers=10,
        num_attention_heads=9,
        num_key_value_heads=3,
        vocab_size=49152,
        tie_word_embeddings=True,
        eos_token_id=0,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("base", ["tiny", "smollm2"])
def test_an_update_takes_no_more_than_planned(base: str, tmp_path: Path) -> None:
    folder = resolve_base("tiny") if base == "tiny" else random_base(tmp_path / "base")
    done = subprocess.run(
        [sys.executable, update_peak.__file__, str(folder)], check=True, capture_output=True, text=True
    )
    planned, seen, passes = map(int, done.stdout.split())
    assert passes == 2
    assert planned / 2 < seen <= planned
