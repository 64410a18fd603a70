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
    """Random weights, with grouped heads and a vocabulary whose logits are scored in chunks."""
    config = LlamaConfig(
        hidden_size=192,
        intermediate_size=512,
        num_hidden_layers=4,
        num_attention_heads=6,
        num_key_value_heads=2,
        vocab_size=8192,
        tie_word_embeddings=True,
        eos_token_id=0,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.mark.parametrize(("base", "group"), [("tiny", 1), ("random", 1), ("random", 8)])
def test_an_update_takes_no_more_than_planned(base: str, group: int, tmp_path: Path) -> None:
    folder = resolve_base("tiny") if base == "tiny" else random_base(tmp_path / "base")
    done = subprocess.run(
        [sys.executable, update_peak.__file__, str(folder), str(group)],
        check=True,
        capture_output=True,
        text=True,
    )
    planned, seen, passes = map(int, done.stdout.split())
    assert passes == 2
    assert planned / 2 < seen <= planned
