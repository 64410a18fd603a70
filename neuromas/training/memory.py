"""How the update is cut so that it fits into memory, and what it then takes at most. Loads no torch.

A forward pass keeps, for its backward pass, what goes into and comes out of every linear layer, and a few more rows of
the same widths (norms, rotations, products). Memory that it gives back does not all fit the tensors of the next pass,
whose rows have other lengths. Both together are ``_HELD``, as measured. Splitting a batch costs next to
nothing, so forward passes get as many tokens as fit. Computing layers anew in the backward pass keeps the states
between them and two layers at a time, and costs a third of a step: it is done only where a single call does not fit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from neuromas.base.resolve import resolve_base
from neuromas.base.sizes import Dimensions, read_sizes
from neuromas.spec.run import RunSpec

MAX_LOGITS: Final = 1 << 24
"""Logits held at once; beyond it the head runs in chunks."""
_BUDGET: Final = {"cpu": 2 << 30, "gpu": 8 << 30}
"""Bytes that the layers of one forward pass may keep where the setting is "auto"."""
_HELD: Final = 2.3
"""Numbers held of a token for each number that goes into or comes out of a linear layer."""
_LOGIT_COPIES: Final = 6
"""Logits, scaled, as log-probabilities, as probabilities, their product, and a gradient."""
_PROCESS: Final = 900 << 20
"""What a learner's process takes before it has loaded a base: its libraries."""
_BYTES: Final = {"float32": 4, "bfloat16": 2, "float16": 2}
_UNKNOWN_TOKENS: Final = 8192


@dataclass(frozen=True, slots=True)
class UpdateMemory:
    """How an update is cut, and what it takes.

    Attributes:
        tokens_per_forward: tokens of one forward pass at most, padding included.
        gradient_checkpointing: whether layers are computed anew in the backward pass.
        peak_bytes: what a learner's process takes at most; None where the base's files do not say.
    """

    tokens_per_forward: int
    gradient_checkpointing: bool
    peak_bytes: int | None


def update_memory(spec: RunSpec) -> UpdateMemory:
    """Return how the updates of a run on its own base are cut.

    Raises:
        BaseModelError: there is no such base.
    """
    sizes = read_sizes(resolve_base(spec.base), spec.adapters.targets)
    return plan_memory(spec, None if sizes is None else sizes.dimensions)


def plan_memory(spec: RunSpec, base: Dimensions | None, trained: int = 0, step_tokens: int = 1 << 62) -> UpdateMemory:
    """Return how the updates of a run are cut.

    Args:
        spec: the run.
        base: the sizes of its base; None where its files do not say.
        trained: numbers that are trained.
        step_tokens: tokens of all calls of a step together, at most.
    """
    wanted, again = spec.training.tokens_per_forward, spec.training.gradient_checkpointing
    if base is None:
        return UpdateMemory(_UNKNOWN_TOKENS if wanted == "auto" else wanted, again is True, None)
    width = _BYTES[spec.engine.dtype]
    on_gpu = spec.runtime.gpus_per_learner > 0
    budget = _BUDGET["gpu" if on_gpu else "cpu"]
    of_all_layers = _HELD * width * base.features
    longest = spec.engine.max_model_len
    checkpointing = longest * of_all_layers > budget if again == "auto" else again
    of_two_layers = width * base.hidden * base.layers + 2 * of_all_layers / base.layers
    per_token = of_two_layers if checkpointing else of_all_layers
    tokens = max(longest, int(budget / per_token)) if wanted == "auto" else wanted
    held = min(max(tokens, longest), step_tokens)
    logits = _LOGIT_COPIES * 4 * min(held * base.vocabulary, MAX_LOGITS + base.vocabulary)
    whole = width * base.parameters
    weights = width * _gathered(base, spec.runtime.learner_workers) if spec.runtime.shard_base else whole
    peak = _PROCESS + weights + 4 * 4 * trained + round(held * per_token) + logits
    # A learner loads all of the base before it keeps its share, and on CPU into the memory that it trains in.
    return UpdateMemory(tokens, checkpointing, peak if on_gpu else max(peak, _PROCESS + whole))


def _gathered(base: Dimensions, learners: int) -> int:
    """Return the numbers of a base in shares that a learner holds at most: its share and what a pass has gathered.

    That is what lies outside the layers and two layers, that in use and the next, each as it came and as it is used.
    """
    outside = min(base.parameters - base.layer_weights, 2 * base.vocabulary * base.hidden)
    layer = -(-(base.parameters - outside) // base.layers)
    return -(-base.parameters // learners) + 2 * (outside + 2 * layer)
