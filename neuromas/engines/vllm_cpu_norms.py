"""RMS norms of vLLM's models on CPU, by compiled kernels that vLLM is built with and does not use there.

vLLM 0.32 computes these norms on CPU by PyTorch's operators, 20 to 28 us each however few tokens there are; its kernels
take 3 to 8 us. A layer of a Qwen3 has four norms: on a small base that is a tenth of a step.
"""

from __future__ import annotations

import torch
import vllm.kernels  # noqa: F401 # registers what vLLM itself offers, before a priority is set
from torch import Tensor
from vllm import ir

_PROVIDER = "neuromas_cpu"
_VECTOR = 8
"""The kernels go through a row in vectors of this many numbers and refuse a remainder."""
_IS_BUILT = hasattr(torch.ops._C, "rms_norm") and hasattr(torch.ops._C, "fused_add_rms_norm")
"""Builds for other processors may lack them; vLLM leaves out of a priority what is not supported."""


def norm_priority() -> dict[str, list[str]]:
    """Return vLLM's setting ``ir_op_priority`` that prefers the kernels to PyTorch's operators.

    They take float32. In half precision they round once less than PyTorch, and so than the trainer's model.
    """
    return {operator: [_PROVIDER, "native"] for operator in ("rms_norm", "fused_add_rms_norm")}


def _takes(
    x: Tensor,
    weight: Tensor | None,
    epsilon: float,  # noqa: ARG001 # vLLM compares the names with the operator's
    variance_size: int | None = None,
) -> bool:
    return (
        x.dtype is torch.float32
        and weight is not None
        and weight.dtype is torch.float32
        and variance_size is None
        and x.shape[-1] % _VECTOR == 0
    )


def _takes_sum(
    x: Tensor, x_residual: Tensor, weight: Tensor | None, epsilon: float, variance_size: int | None = None
) -> bool:
    return x.is_contiguous() and x_residual.is_contiguous() and _takes(x, weight, epsilon, variance_size)


@ir.ops.rms_norm.register_impl(_PROVIDER, supported=_IS_BUILT, supports_args=_takes)  # type: ignore[untyped-decorator] # as vLLM is
def _norm(
    x: Tensor,
    weight: Tensor | None,
    epsilon: float,
    variance_size: int | None = None,  # noqa: ARG001
) -> Tensor:
    """Return ``weight x / sqrt(mean(x^2) + epsilon)``, means over the last dimension."""
    out = torch.empty(x.shape, dtype=x.dtype)
    # Heads are slices of a packed projection; the kernel takes rows that follow each other.
    torch.ops._C.rms_norm(out, x.contiguous(), weight, epsilon)
    return out


@ir.ops.fused_add_rms_norm.register_impl(  # type: ignore[untyped-decorator]
    _PROVIDER, supported=_IS_BUILT, supports_args=_takes_sum, inplace=True
)
def _add_and_norm(
    x: Tensor,
    x_residual: Tensor,
    weight: Tensor | None,
    epsilon: float,
    variance_size: int | None = None,  # noqa: ARG001
) -> tuple[Tensor, Tensor]:
    """Put ``x + x_residual`` into ``x_residual`` and its norm into ``x``; returns both."""
    torch.ops._C.fused_add_rms_norm(x, x_residual, weight, epsilon)
    return x, x_residual
