"""A random Qwen3 for benchmarks: real shapes of the architecture, nothing learned."""

from __future__ import annotations

from pathlib import Path

from transformers import Qwen3Config, Qwen3ForCausalLM

VOCABULARY = 1024


def save_model(folder: Path, hidden_size: int, head_dim: int) -> None:
    """Write a model of 4 layers with 4 query and 2 key-value heads to a folder."""
    config = Qwen3Config(
        vocab_size=VOCABULARY,
        hidden_size=hidden_size,
        intermediate_size=3 * hidden_size,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=head_dim,
        tie_word_embeddings=True,
    )
    Qwen3ForCausalLM(config).save_pretrained(folder)
