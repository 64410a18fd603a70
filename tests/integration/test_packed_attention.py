"""A packed row is computed as the rows in it are: whatever attention the base has, or the base is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    FalconConfig,
    Gemma2Config,
    Gemma3TextConfig,
    GPTNeoConfig,
    GraniteConfig,
    Llama4TextConfig,
    MistralConfig,
    OpenAIGPTConfig,
    OPTConfig,
    PreTrainedConfig,
    PreTrainedModel,
    Qwen2Config,
    Qwen3Config,
    Qwen3NextConfig,
)

from neuromas.adapters.frozen_base import load_base
from neuromas.base.attention import check_attention
from neuromas.engines.transformers import TransformersEngine
from neuromas.errors import BaseModelError
from neuromas.rollout.engine import EngineCall, Sampling
from neuromas.spec.machine import EngineSpec
from neuromas.training.packing import pack
from neuromas.training.scoring import Scores, add_scoring, check_scoring, score_bucket

CPU = torch.device("cpu")
WINDOW = 7
SIZES = {"vocab_size": 64, "hidden_size": 64, "num_hidden_layers": 4, "num_attention_heads": 4}
SHAPE: dict[str, Any] = SIZES | {
    "intermediate_size": 96,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 128,
    "initializer_range": 0.2,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
MIXED = ["sliding_attention", "full_attention", "sliding_attention", "full_attention"]
FOLLOWED = {
    "mistral: one window": MistralConfig(**SHAPE, sliding_window=WINDOW),
    "gemma 2: windows, softcaps": Gemma2Config(**SHAPE, sliding_window=WINDOW, attn_logit_softcapping=0.5),
    "gemma 3: windows of own rotary base": Gemma3TextConfig(**SHAPE, sliding_window=WINDOW, layer_types=MIXED),
    "qwen 2: upper layers": Qwen2Config(**SHAPE, use_sliding_window=True, sliding_window=WINDOW, max_window_layers=2),
    "qwen 3: layer types": Qwen3Config(**SHAPE, use_sliding_window=True, sliding_window=WINDOW, layer_types=MIXED),
    "llama 4: chunks, layers without positions": Llama4TextConfig(
        **SHAPE, attention_chunk_size=WINDOW, num_local_experts=2, intermediate_size_mlp=96, no_rope_layers=[1, 0, 1, 0]
    ),
    "granite: scaled logits": GraniteConfig(**SHAPE, logits_scaling=4.0),
    "opt: learned positions, dropout": OPTConfig(**SIZES, ffn_dim=96, dropout=0.5, layerdrop=0.0),
    "falcon: one key head": FalconConfig(**SIZES, hidden_dropout=0.3, attention_dropout=0.3),
}
COUNTED = {"falcon: alibi": FalconConfig(**SIZES, alibi=True)}


def saved(config: PreTrainedConfig, folder: Path) -> Path:
    """A random base whose scores depend on where its attention looks."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(config)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.05 * torch.randn_like(parameter))
    model.save_pretrained(folder)
    return folder


def rows() -> tuple[list[list[int]], list[list[int]]]:
    """Four prompts that share 15 or 24 tokens, longer than any window, and completions."""
    random = np.random.default_rng(0)
    shared = random.integers(3, 60, 24).tolist()
    other = [*shared[:15], *random.integers(3, 60, 9).tolist()]
    return [[*shared, 5], other, [*shared, 5], [*shared, 5]], [
        random.integers(3, 60, n).tolist() for n in (12, 5, 9, 1)
    ]


def packed_scores(model: PreTrainedModel, *, share: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Logprobs of all completion tokens in order, and the loss that weighs them by their number."""
    prompts, completions = rows()
    values = torch.zeros(4, 12)
    for bucket in pack(prompts, completions, np.zeros(4, dtype=np.int64), share=share):
        found: Scores = score_bucket(model, bucket, torch.ones(len(bucket.groups)), CPU)
        where = torch.from_numpy(bucket.call_rows), torch.from_numpy(bucket.steps)
        values = values.index_put(where, found.logprobs)
    chosen = torch.cat([values[row, : len(tokens)] for row, tokens in enumerate(completions)])
    return chosen.detach(), weighed(chosen)


def unpacked_scores(model: PreTrainedModel) -> tuple[torch.Tensor, torch.Tensor]:
    """The same by the model's own forward, call by call."""
    parts = []
    for prompt, completion in zip(*rows(), strict=True):
        ids = torch.tensor([[*prompt, *completion]])
        logits = model(input_ids=ids, use_cache=False).logits[0, len(prompt) - 1 : -1]
        parts.append(logits.log_softmax(-1).gather(1, ids[0, len(prompt) :, None])[:, 0])
    chosen = torch.cat(parts)
    return chosen.detach(), weighed(chosen)


def weighed(logprobs: torch.Tensor) -> torch.Tensor:
    return (logprobs * torch.linspace(-1, 1, len(logprobs))).sum()


def gradient(model: PreTrainedModel, loss: torch.Tensor) -> torch.Tensor:
    model.zero_grad()
    loss.backward()
    found = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    return torch.cat([value.flatten() for value in found])


@pytest.mark.parametrize("name", FOLLOWED)
def test_packed_rows_score_and_learn_as_rows_of_their_own(name: str, tmp_path: Path) -> None:
    folder = saved(FOLLOWED[name], tmp_path)
    check_attention(folder, packed=True)
    model = load_base(folder).requires_grad_(True).train()
    logprobs, loss = unpacked_scores(model)
    expected = gradient(model, loss)
    add_scoring(model)
    check_scoring(model, 1e-4, packed=True)
    for share in (True, False):
        packed, loss = packed_scores(model, share=share)
        assert (packed - logprobs).abs().max() < 1e-4
        assert (gradient(model, loss) - expected).norm() < 1e-4 * expected.norm()


@pytest.mark.parametrize(
    ("name", "setting", "idle"),
    [
        ("mistral: one window", "sliding_window", 4096),
        ("gemma 2: windows, softcaps", "sliding_window", 4096),
        ("gemma 2: windows, softcaps", "attn_logit_softcapping", None),
    ],
)
def test_windows_and_caps_of_the_base_act(name: str, setting: str, idle: int | None, tmp_path: Path) -> None:
    config = FOLLOWED[name]
    without = type(config)(**config.to_dict() | {setting: idle})
    scores = [unpacked_scores(load_base(saved(each, tmp_path / str(each is config))))[0] for each in (config, without)]
    assert (scores[0] - scores[1]).abs().max() > 0.05


@pytest.mark.parametrize("name", [*FOLLOWED, *COUNTED])
def test_the_transformers_engine_samples_what_training_scores(name: str, tmp_path: Path) -> None:
    folder = saved((FOLLOWED | COUNTED)[name], tmp_path)
    engine = TransformersEngine(folder, EngineSpec(type="transformers", max_model_len=64), 1, 1)
    prompts = [*rows()[0], [7], [9, 8]]
    calls = [EngineCall(str(n), tuple(ids), Sampling(9, seed=n)) for n, ids in enumerate(prompts)]
    model = load_base(folder).train()
    for batch in (calls[:3], calls[3:]):  # the later ones meet the earlier ones half-way
        engine.submit(batch)
        engine.step()
    while engine.has_unfinished():
        for result in engine.step():
            prompt = prompts[int(result.id)]
            ids = torch.tensor([[*prompt, *result.token_ids]])
            logprobs = model(input_ids=ids, use_cache=False).logits[0, len(prompt) - 1 : -1].log_softmax(-1)
            chosen = logprobs.gather(1, ids[0, len(prompt) :, None])[:, 0]
            assert (chosen - torch.tensor(result.logprobs)).abs().max() < 1e-4


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        (Qwen3NextConfig(**SHAPE), "layers of kind linear_attention"),
        (FalconConfig(**SIZES, alibi=True), "training.forward = 'padded'"),
        (GPTNeoConfig(), "training.forward = 'padded'"),
    ],
)
def test_what_cannot_be_packed_is_refused_before_a_start(config: PreTrainedConfig, reason: str, tmp_path: Path) -> None:
    config.save_pretrained(tmp_path)
    with pytest.raises(BaseModelError, match=reason):
        check_attention(tmp_path, packed=True)


def test_places_may_count_where_rows_are_padded(tmp_path: Path) -> None:
    folder = saved(FalconConfig(**SIZES, alibi=True), tmp_path)
    check_attention(folder, packed=False)
    model = load_base(folder)
    expected = unpacked_scores(model)[0]
    add_scoring(model)
    check_scoring(model, 1e-4, packed=False)
    assert (packed_scores(model, share=False)[0] - expected).abs().max() < 1e-4


def test_an_unknown_kind_is_noticed_by_its_scores(tmp_path: Path) -> None:
    model = load_base(saved(OpenAIGPTConfig(vocab_size=64, n_embd=64, n_layer=2, n_head=4), tmp_path))
    add_scoring(model)
    check_scoring(model, 1e-4, packed=False)
    with pytest.raises(BaseModelError, match=r"training\.forward = 'padded'"):
        check_scoring(model, 1e-4, packed=True)
