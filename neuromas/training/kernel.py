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

from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from neuromas.adapters.bank import AdapterBank
from neuromas.adapters.layer import NodeAdapterLinear
from neuromas.rollout.record import NodeCall
from neuromas.training.packing import Bucket
from neuromas.training.scoring import Scored, score_bucket

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

    def take(path: str, into: Tensor, back: Tensor) -> None:
        found[path] = _gram(into, back, *pairs[path], scale)

    with _watching(model, pairs, take):
        _scores(model, bank, adapter, calls, temperatures).sum().backward()  # type: ignore[no-untyped-call]
    model.zero_grad(set_to_none=True)
    return {path: found[path] for path in pairs}


def weight_gradients(
    model: nn.Module,
    bank: AdapterBank,
    adapter: str,
    calls: Sequence[NodeCall],
    temperatures: Sequence[float],
    weights: Sequence[float],
) -> dict[str, Tensor]:
    """Return sum_i w_i df_i/dW by the weight W of every layer that an adapter acts on; leaves no gradients.

    The base is frozen; the gradient comes from the layers' inputs h and the derivatives d by their outputs, as
    sum_t d_t h_tᵀ.

    Args:
        model: with ``add_scoring``.
        bank: of the model.
        adapter: whose calls these are.
        calls: at least one, all with a completion.
        temperatures: at which each was sampled.
        weights: w, the advantage of each.

    Returns:
        By the layer's path, float32, shape (out, in).
    """
    found: dict[str, Tensor] = {}

    def take(path: str, into: Tensor, back: Tensor) -> None:
        found[path] = torch.einsum("nto,nti->oi", back.float(), into)

    paths = bank.modules(adapter)
    with _watching(model, paths, take):
        scores = _scores(model, bank, adapter, calls, temperatures)
        scores.dot(torch.tensor(weights, dtype=scores.dtype, device=scores.device)).backward()  # type: ignore[no-untyped-call]
    model.zero_grad(set_to_none=True)
    return {path: found[path] for path in paths}


@torch.no_grad()
def prompt_inputs(
    model: nn.Module, bank: AdapterBank, adapter: str, prompts: Sequence[Sequence[int]]
) -> dict[str, Tensor]:
    """Return what reaches every layer that an adapter acts on while its node reads some prompts.

    Args:
        model: with ``add_scoring``.
        bank: of the model.
        adapter: that of the node.
        prompts: tokens of each, at least one.

    Returns:
        By the layer's path, float32, shape (tokens, in). Layers that are fed by the same tensor have the same one.
    """
    found: dict[str, Tensor] = {}
    latest: list[tuple[Tensor, Tensor]] = []
    tokens = np.zeros((len(prompts), max(map(len, prompts))), dtype=np.int64)
    is_read = np.zeros(tokens.shape, dtype=bool)
    for row, prompt in enumerate(prompts):
        tokens[row, : len(prompt)], is_read[row, : len(prompt)] = prompt, True
    device = next(model.parameters()).device
    mask = torch.from_numpy(is_read).to(device)

    def hook(layer: NodeAdapterLinear, inputs: tuple[Tensor, ...], _: Tensor) -> None:
        if not latest or latest[0][0] is not inputs[0]:
            latest[:] = [(inputs[0], inputs[0][mask].float())]
        found[layer.path] = latest[0][1]

    bank.set_routes([bank.index(adapter)] * len(prompts))
    last = mask.sum(1) - 1 + torch.arange(len(prompts), device=device) * mask.shape[1]
    nothing = Scored(last, torch.zeros_like(last), torch.ones(len(prompts), device=device))
    with _hooked(model, bank.modules(adapter), hook):
        model(input_ids=torch.from_numpy(tokens).to(device), scored=nothing)
    return found


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


@contextmanager
def _hooked(model: nn.Module, paths: Container[str], hook: Callable[..., None]) -> Iterator[None]:
    """Call a forward hook on the adapted layers at these paths."""
    layers = [module for module in model.modules() if isinstance(module, NodeAdapterLinear) and module.path in paths]
    handles = [layer.register_forward_hook(hook) for layer in layers]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def _watching(model: nn.Module, paths: Container[str], take: Callable[[str, Tensor, Tensor], None]) -> Iterator[None]:
    """Hand over each layer's input (rows, tokens, in) and, in the backward pass, the derivative by its output."""

    def hook(layer: NodeAdapterLinear, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        into = inputs[0].detach().float()
        listen: Callable[..., object] = output.register_hook
        if output.requires_grad:  # not so in the first pass of activations that are recomputed
            listen(lambda back: take(layer.path, into, back))

    with _hooked(model, paths, hook):
        yield


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
