"""The norms that vLLM's models compute on CPU: its compiled kernels against its own PyTorch definition."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

EPSILON = 1e-6


@pytest.fixture(scope="module", autouse=True)
def _vllm() -> None:
    from neuromas.engines.vllm_start import import_vllm

    import_vllm()


def implementation(operator: str, arguments: tuple[Any, ...]) -> tuple[str, Callable[..., Any]]:
    """Return who computes an operator for these arguments under our setting, and how."""
    from vllm import ir

    from neuromas.engines.vllm_cpu_norms import norm_priority

    op = getattr(ir.ops, operator)
    with op.set_priority(norm_priority()[operator]):
        chosen = op.dispatch(*arguments)
    return chosen.provider, chosen.impl_fn


def native(operator: str) -> Callable[..., Any]:
    from vllm import ir

    return getattr(ir.ops, operator).impls["native"].impl_fn


@given(st.integers(1, 70), st.integers(1, 24), st.floats(0.01, 100.0), st.integers(0, 2**31))
def test_norms_are_the_defined_ones(num_tokens: int, num_vectors: int, scale: float, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    width = 8 * num_vectors
    x, residual = (scale * torch.randn(num_tokens, width, generator=generator) for _ in range(2))
    weight = torch.randn(width, generator=generator)

    provider, norm = implementation("rms_norm", (x, weight, EPSILON))
    assert provider == "neuromas_cpu"
    torch.testing.assert_close(norm(x, weight, EPSILON), native("rms_norm")(x, weight, EPSILON), atol=1e-5, rtol=1e-5)

    expected = native("fused_add_rms_norm")(x, residual, weight, EPSILON)
    provider, add_and_norm = implementation("fused_add_rms_norm", (x, residual, weight, EPSILON))
    assert provider == "neuromas_cpu"
    torch.testing.assert_close(add_and_norm(x, residual, weight, EPSILON), expected, atol=1e-5, rtol=1e-5)


def test_heads_cut_out_of_a_packed_projection_are_normed_each() -> None:
    packed = torch.randn(5, 192, generator=torch.Generator().manual_seed(0))
    heads = packed[:, 64:128].view(5, 2, 32)
    weight = torch.linspace(0.5, 2.0, 32)
    provider, norm = implementation("rms_norm", (heads, weight, EPSILON))
    assert provider == "neuromas_cpu"
    got = norm(heads, weight, EPSILON)
    for token in range(5):
        for head in range(2):
            row = packed[token, 64 + 32 * head : 96 + 32 * head]
            torch.testing.assert_close(got[token, head], weight * row / (row.square().mean() + EPSILON).sqrt())


@pytest.mark.parametrize(
    "case",
    [
        lambda x: (x[:, :12], torch.ones(12), EPSILON),
        lambda x: (x, None, EPSILON),
        lambda x: (x, torch.ones(64), EPSILON, 32),
        lambda x: (x.bfloat16(), torch.ones(64).bfloat16(), EPSILON),
        lambda x: (x, torch.ones(64).bfloat16(), EPSILON),
    ],
    ids=["width 12", "no weight", "part of the width", "bfloat16", "unlike formats"],
)
def test_what_the_kernels_do_not_take_stays_with_pytorch(case: Callable[[Any], tuple[Any, ...]]) -> None:
    assert implementation("rms_norm", case(torch.randn(3, 64)))[0] == "native"


def test_sums_that_do_not_lie_in_one_piece_stay_with_pytorch() -> None:
    piece = torch.randn(3, 128)[:, :64]
    arguments = (piece, torch.randn(3, 64), torch.ones(64), EPSILON)
    assert implementation("fused_add_rms_norm", arguments)[0] == "native"


def test_a_started_engine_prefers_the_kernels() -> None:
    from vllm import ir

    from neuromas.base.resolve import resolve_base
    from neuromas.engines.vllm import VllmEngine
    from neuromas.spec.machine import EngineSpec

    engine = VllmEngine(resolve_base("tiny"), EngineSpec(kv_cache_gib=0.05, max_model_len=64), 0, 1)
    try:
        assert ir.ops.rms_norm.get_priority()[0] == "neuromas_cpu"
        assert ir.ops.fused_add_rms_norm.get_priority()[0] == "neuromas_cpu"
    finally:
        engine.close()
