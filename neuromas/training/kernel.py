"""Score kernels: how the log-probabilities of an adapter's messages move together when the adapter is trained.

The score of a message is f_i = sum_t log pi(m_t | prompt, m_<t). With J the derivatives of the scores by the adapter,
K = J Jᵀ is the empirical neural tangent kernel of a batch of messages. It is a sum over modules, and for a low-rank
pair (A, B) of scale s each part is, with h the inputs of the module's tokens and d the derivatives by its outputs,

    K_ij = s² (<D_i, D_j> + <E_i, E_j>),   D_i = sum_t d_t (A h_t)ᵀ,   E_i = sum_t (Bᵀ d_t) h_tᵀ,

so that one backward pass with two hooks a module gives the kernels of all messages. Source: the linearization paper,
arXiv:2602.08239, section 3, for the pair and by autograd instead of differences. One policy-gradient step of rate e
along advantages a moves the scores by e K a to first order, and the expected reward by e aᵀ K a.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from neuromas.adapters.bank import AdapterBank
from neuromas.adapters.layer import NodeAdapterLinear
from neuromas.rollout.record import NodeCall
from neuromas.training.packing import Bucket
from neuromas.training.scoring import score_bucket

Grams = Mapping[str, NDArray[np.float64]]
"""By the module's path: its part of the kernel, shape (calls, calls)."""


def score_grams(
    model: nn.Module, bank: AdapterBank, adapter: str, calls: Sequence[NodeCall], temperatures: Sequence[float]
) -> Grams:
    """Return the parts of an adapter's kernel over some calls; leaves no gradients.

    Args:
        model: with ``add_scoring``; adapters as they are to be looked at.
        bank: of the model.
        adapter: whose calls these are.
        calls: at least one, all with a completion.
        temperatures: at which each was sampled.
    """
    found: dict[str, NDArray[np.float64]] = {}
    pairs = {path: (a[0], b[0]) for path, a, b in _pairs(bank, adapter)}
    scale = bank.scale(adapter)

    def watch(layer: NodeAdapterLinear) -> Any:
        a, scaled_b = pairs[layer.path]

        def hook(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            into = inputs[0].detach().float()

            def take(back: Tensor) -> None:
                found[layer.path] = _gram(into, back, a, scaled_b, scale)

            listen: Callable[..., object] = output.register_hook
            listen(take)

        return layer.register_forward_hook(hook)

    layers = [module for module in model.modules() if isinstance(module, NodeAdapterLinear) and module.path in pairs]
    hooks = [watch(layer) for layer in layers]
    try:
        _scores(model, bank, adapter, calls, temperatures).sum().backward()  # type: ignore[no-untyped-call]
    finally:
        for handle in hooks:
            handle.remove()
        model.zero_grad(set_to_none=True)
    return {layer.path: found[layer.path] for layer in layers}


def linearity_gap(
    model: nn.Module,
    bank: AdapterBank,
    adapter: str,
    calls: Sequence[NodeCall],
    temperatures: Sequence[float],
    start: Mapping[str, Tensor],
) -> float | None:
    """Return how far an adapter's scores are from linear in what training changed; None where it changed nothing.

    With f̄ the scores at the start plus their true derivative along the change of the parameters, the gap is
    ||f - f̄|| / ||f - f_start||: 0 where training was linear. Leaves the model as it was.

    Args:
        model: with ``add_scoring``; adapters as trained.
        bank: of the model.
        adapter: whose calls these are.
        calls: at least one, all with a completion.
        temperatures: at which each was sampled.
        start: state of all adapters before training, as ``AdapterBank.state`` returns it.
    """
    # The products of attention one by one: they have second derivatives, and all scores here are compared.
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        trained = _scores(model, bank, adapter, calls, temperatures)
    after, parameters = bank.state(), [owned.tensor for owned in bank.trained()]
    ends = [tensor.detach().clone() for tensor in parameters]
    bank.load_all(start)
    try:
        change = [end - tensor.detach() for end, tensor in zip(ends, parameters, strict=True)]
        # The derivative along a direction, as the derivative of Jᵀu by u: two backward passes.
        with sdpa_kernel(SDPBackend.MATH):
            scores = _scores(model, bank, adapter, calls, temperatures)
        weights = torch.zeros_like(scores, requires_grad=True)
        back = torch.autograd.grad(scores, parameters, weights, create_graph=True, allow_unused=True)
        along = scores.sum() * 0.0
        for part, step in zip(back, change, strict=True):
            if part is not None:
                along = along + (part * step).sum()
        (moved,) = torch.autograd.grad(along, weights)
    finally:
        bank.load_all(after)
    apart, total = (trained - scores - moved).norm().item(), (trained - scores).norm().item()
    return apart / total if total else None


def _gram(into: Tensor, back: Tensor, a: Tensor, scaled_b: Tensor, scale: float) -> NDArray[np.float64]:
    """Return a module's part of the kernel.

    Args:
        into: inputs of the module, shape (calls, tokens, in).
        back: derivatives of the scores by its outputs, shape (calls, tokens, out).
        a: shape (r, in).
        scaled_b: B times the scale, shape (out, r).
        scale: of the pair.
    """
    back = back.float()
    by_b = torch.einsum("nto,ntr->nor", back, into @ a.T).flatten(1).double() * scale
    by_a = torch.einsum("ntr,nti->nri", back @ scaled_b, into).flatten(1).double()
    return (by_b @ by_b.T + by_a @ by_a.T).cpu().numpy()


@torch.no_grad()
def _pairs(bank: AdapterBank, adapter: str) -> Iterator[tuple[str, Tensor, Tensor]]:
    for path, a, b in bank.pairs(torch.tensor([bank.index(adapter)])):
        yield path, a.float(), b.float()


def _scores(
    model: nn.Module, bank: AdapterBank, adapter: str, calls: Sequence[NodeCall], temperatures: Sequence[float]
) -> Tensor:
    """Return the score of each call, shape (calls,)."""
    bucket = _rows(calls)
    bank.set_routes([bank.index(adapter)] * len(calls))
    device = next(model.parameters()).device
    logprobs = score_bucket(model, bucket, torch.tensor(temperatures, dtype=torch.float32), device).logprobs
    rows = torch.from_numpy(bucket.call_rows).to(device)
    return torch.zeros(len(calls), device=device).index_add(0, rows, logprobs)


def _rows(calls: Sequence[NodeCall]) -> Bucket:
    """Return one forward pass with a row per call, padded on the right."""
    sequences = [(*call.prompt_token_ids, *call.completion_token_ids[:-1]) for call in calls]
    length = max(map(len, sequences))
    tokens = np.zeros((len(calls), length), dtype=np.int64)
    targets = []
    for row, (call, sequence) in enumerate(zip(calls, sequences, strict=True)):
        tokens[row, : len(sequence)] = sequence
        first = row * length + len(call.prompt_token_ids) - 1
        targets += [(first + step, label, row, step) for step, label in enumerate(call.completion_token_ids)]
    sources, labels, rows, steps = np.array(targets, dtype=np.int64).T
    positions = np.broadcast_to(np.arange(length), tokens.shape)
    return Bucket(np.zeros(len(calls), dtype=np.int64), tokens, positions, None, sources, labels, rows, steps)
